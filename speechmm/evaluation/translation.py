"""Scores translations by sacrebleu: BLEU and chrF of a corpus, with intervals of the same draws as WER."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechmm.alignments.scripts import unspaced_share
from speechmm.evaluation.report_types import (
    Interval,
    TranslationComparison,
    TranslationReport,
    TranslationScore,
)
from speechmm.evaluation.scoring import Scored
from speechmm.evaluation.significance import interval95, resample_sums, sums_by_speaker
from speechmm.options import BOOTSTRAP_DRAWS

MOSTLY_UNSPACED = 0.5
"""Share of letters of scripts without spaces from which on BLEU counts characters, not words."""
METRICS = ("bleu", "chrf")


def score_translations(
    scored: Scored, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> TranslationReport:
    """BLEU and chrF2 of what a system wrote, both from 0 to 100, the more the better.

    Texts are those that the word error rate counts, normalised: with the normalizer "verbatim" the scores
    are those of the sacrebleu program on the same lines. Intervals are those of the middle 95 % of the
    draws, utterances (and speakers) with replacement.

    Source: Papineni et al. 2002, "BLEU"; Popović 2015, "chrF"; Post 2018, "A Call for Clarity in Reporting
    BLEU Scores" (sacrebleu); Koehn 2004 (bootstrap).
    """
    speakers = [source.speaker for source in scored.sources]
    found: dict[str, TranslationScore] = {}
    for name, metric in _metrics(scored).items():
        rows = _statistics(metric, scored)
        score = metric.corpus_score(scored.hypotheses, [scored.references])
        by_speaker = sums_by_speaker(rows, speakers)
        found[name] = {
            "score": float(score.score),
            "ci95": _middle(_draw(metric, rows, draws, seed)),
            "ci95_speakers": None
            if by_speaker is None
            else _middle(_draw(metric, by_speaker, draws, seed)),
            "signature": str(metric.get_signature()),
        }
    return {"bleu": found["bleu"], "chrf": found["chrf"]}


def compare_translations(
    first: Scored, second: Scored, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> TranslationComparison:
    """Scores of a second system on the same references, and how far the first is above it.

    Source: Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation" (paired
    bootstrap).
    """
    found: dict[str, Any] = {}
    for name, metric in _metrics(first).items():
        drawn = [_draw(metric, _statistics(metric, one), draws, seed) for one in (first, second)]
        whole = [
            metric.corpus_score(one.hypotheses, [one.references]).score for one in (first, second)
        ]
        difference = drawn[0] - drawn[1]
        found[name] = {
            "score": float(whole[1]),
            "difference": float(whole[0] - whole[1]),
            "ci95": _middle(difference),
            "probability_better": float((difference > 0).mean() + 0.5 * (difference == 0).mean()),
        }
    return {"bleu": found["bleu"], "chrf": found["chrf"]}


def _metrics(scored: Scored) -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    unspaced = unspaced_share(scored.references) > MOSTLY_UNSPACED
    return {"bleu": BLEU(tokenize="char" if unspaced else "13a", force=True), "chrf": CHRF()}


def _statistics(metric: Any, scored: Scored) -> NDArray[np.float64]:
    """What each utterance adds to the score of a corpus: counts of n-grams and lengths."""
    rows = metric._extract_corpus_statistics(scored.hypotheses, [scored.references])
    return np.asarray(rows, np.float64)


def _draw(metric: Any, rows: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """The score of each draw of as many rows as there are."""
    sums = resample_sums(rows, draws=draws, seed=seed).astype(np.int64)
    scores = [metric._compute_score_from_stats(one).score for one in sums.tolist()]
    return np.asarray(scores, np.float64)


def _middle(scores: NDArray[np.float64]) -> Interval:
    found = interval95(scores, np.ones_like(scores))
    return None if found is None else list(found)

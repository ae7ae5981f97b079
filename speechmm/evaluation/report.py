"""Computes the numbers of a word error rate report: what report.json holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from speechmm.alignments.scripts import unspaced_share
from speechmm.errors import ManifestError
from speechmm.evaluation import breakdowns
from speechmm.evaluation.calibration import (
    calibration_line,
    equal_mass_error,
    expected_calibration_error,
    reliability,
)
from speechmm.evaluation.error_rate import UtteranceErrors, total_counts
from speechmm.evaluation.report_types import (
    Interval,
    Report,
    SerRow,
    SpeakerRow,
    WerRow,
    WordConfidence,
)
from speechmm.evaluation.scoring import Scored
from speechmm.evaluation.significance import (
    bootstrap_rate,
    compare_systems,
    interval95,
    resample_sums,
    sums_by_speaker,
)
from speechmm.evaluation.translation import compare_translations, score_translations
from speechmm.files.provenance import RunMeta
from speechmm.options import BOOTSTRAP_DRAWS

MAX_CHARACTERS = 200
MAX_SPEAKERS = 200
"""With more speakers than this, none gets an interval of its own."""


def make_report(
    scored: Scored,
    *,
    command: str,
    meta: RunMeta,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Report:
    """The contents of ``report.json``.

    Args:
        scored: All utterances.
        command: The command line that asked for it.
        meta: What the transcripts were made with, see `files.provenance`.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """
    rates = _rates(scored, draws, seed)
    return {
        "wer": rates["wer"],
        "cer": rates["cer"],
        "ser": rates["ser"],
        "normalizer": scored.normalizer,
        "respelled_words": scored.respelled,
        "unscored_words": scored.unscored,
        "untimed_hypotheses": list(scored.untimed),
        "unspaced_share": unspaced_share(scored.references),
        "utterances": len(scored.ids),
        "speakers": len({source.speaker for source in scored.sources if source.speaker}),
        "matched_by": "order" if scored.by_order else "id",
        "missing_hypotheses": scored.missing,
        "extra_hypotheses": scored.extra,
        "utterance_speakers": {
            id: one.speaker
            for id, one in zip(scored.ids, scored.sources, strict=True)
            if one.speaker
        },
        "by_speaker": _by_group(scored, _speakers(scored), draws, seed),
        "by_language": _by_group(
            scored, [source.language for source in scored.sources], draws, seed
        ),
        "by_length": breakdowns.by_length(scored.words),
        "by_duration": breakdowns.by_duration(scored),
        "by_position": breakdowns.by_position(scored.words),
        "by_confidence": breakdowns.by_confidence(scored),
        "confidence": _word_confidence(scored),
        "confusions": breakdowns.confusions(scored.words),
        "character_confusions": breakdowns.confusions(scored.characters, most=MAX_CHARACTERS),
        "model": meta.get("model"),
        "checkpoint_sha256": meta.get("checkpoint_sha256"),
        "decoding": meta.get("decoding"),
        "git_commit": meta.get("git_commit"),
        "seed": meta.get("seed"),
        "rtf": meta.get("rtf"),
        "efficiency": meta.get("efficiency"),
        "command": command,
        "transcribe_command": meta.get("command"),
        "audio_seconds": meta.get("audio_seconds"),
        "bootstrap": {"draws": draws, "seed": seed, "resampled": "utterances"},
    }


class _Rates(TypedDict):
    wer: WerRow
    cer: WerRow
    ser: SerRow


def _rates(scored: Scored, draws: int, seed: int) -> _Rates:
    """WER, CER and SER with intervals from the same draws, by utterance and by speaker."""
    rows = np.asarray(
        [
            (
                word.counts.errors,
                word.counts.reference_words,
                character.counts.errors,
                character.counts.reference_words,
                word.counts.errors > 0,
                1,
            )
            for word, character in zip(scored.words, scored.characters, strict=True)
        ],
        np.float64,
    )
    sums = resample_sums(rows, draws=draws, seed=seed)
    wer, cer, ser = (_interval(sums[:, at], sums[:, at + 1]) for at in (0, 2, 4))
    wrong = int(rows[:, 4].sum())
    speaker_rows = sums_by_speaker(rows, _speakers(scored))
    by_speaker: list[Interval] = [None] * 3
    if speaker_rows is not None:
        drawn = resample_sums(speaker_rows, draws=draws, seed=seed)
        by_speaker = [_interval(drawn[:, at], drawn[:, at + 1]) for at in (0, 2, 4)]
    return {
        "wer": {
            **breakdowns.counts_row(total_counts(scored.words)),
            "ci95": wer,
            "ci95_speakers": by_speaker[0],
        },
        "cer": {
            **breakdowns.counts_row(total_counts(scored.characters)),
            "ci95": cer,
            "ci95_speakers": by_speaker[1],
        },
        "ser": {
            "value": wrong / len(rows),
            "wrong": wrong,
            "utterances": len(rows),
            "ci95": ser,
            "ci95_speakers": by_speaker[2],
        },
    }


def _interval(above: NDArray[np.float64], below: NDArray[np.float64]) -> Interval:
    found = interval95(above, below)
    return None if found is None else list(found)


def _speakers(scored: Scored) -> list[str]:
    return [source.speaker for source in scored.sources]


def _by_group(scored: Scored, names: Sequence[str], draws: int, seed: int) -> dict[str, SpeakerRow]:
    """Errors by speaker or language; utterances without a name are left out."""
    groups: dict[str, list[UtteranceErrors]] = {}
    for name, one in zip(names, scored.words, strict=True):
        if name:
            groups.setdefault(name, []).append(one)
    few = len(groups) <= MAX_SPEAKERS
    return {
        name: {
            **breakdowns.group_row(rows),
            "ci95": _wer_interval(rows, draws, seed) if few else None,
        }
        for name, rows in sorted(groups.items())
    }


def _wer_interval(rows: Sequence[UtteranceErrors], draws: int, seed: int) -> Interval:
    found = bootstrap_rate(
        [one.counts.errors for one in rows],
        [one.counts.reference_words for one in rows],
        draws=draws,
        seed=seed,
    )
    return None if found is None else list(found)


def confidence_targets(scored: Scored) -> tuple[list[float], list[bool]]:
    """Confidence of each recognised word, and whether it is right.

    Utterances in which the normalizer has made more words, or fewer, are left out.
    """
    confidences: list[float] = []
    correct: list[bool] = []
    for source, one in zip(scored.sources, scored.words, strict=True):
        if not source.word_confidences or len(source.word_confidences) != len(one.hypothesis):
            continue
        right = [False] * len(one.hypothesis)
        for chunk in one.chunks:
            if chunk.op == "hit":
                for word in range(chunk.hypothesis_start, chunk.hypothesis_end):
                    right[word] = True
        confidences += source.word_confidences
        correct += right
    return confidences, correct


def _word_confidence(scored: Scored) -> WordConfidence | None:
    """How far the confidences of words are from the share of right ones; None without any."""
    confidences, correct = confidence_targets(scored)
    if not confidences:
        return None
    slope, intercept = calibration_line(confidences, correct)
    return {
        "words": len(confidences),
        "correct": sum(correct),
        "expected_calibration_error": expected_calibration_error(confidences, correct),
        "equal_mass_error": equal_mass_error(confidences, correct),
        "slope": slope,
        "intercept": intercept,
        "bins": [group.to_row() for group in reliability(confidences, correct)],
    }


def add_comparison(
    report: Report,
    first: Scored,
    second: Scored,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> None:
    """Adds how the system of the report does against a second one.

    Raises:
        ManifestError: The two were not scored on the same references.
    """
    if first.ids != second.ids or first.references != second.references:
        raise ManifestError(
            f"{second.hypothesis}: matched with other references than {first.hypothesis}; expected "
            "the same. Score both against one reference file with ids."
        )
    result = compare_systems(
        first.words, second.words, speakers=_speakers(first), draws=draws, seed=seed
    )
    report["comparison"] = {
        "test": result.test,
        "p_value": result.p_value,
        "wer_difference": result.wer_difference,
        "ci95": None if result.ci95 is None else list(result.ci95),
        "ci95_speakers": None if result.ci95_speakers is None else list(result.ci95_speakers),
        "segments": result.segments,
        "probability_better": result.probability_better,
        "against": {
            "hypothesis": str(second.hypothesis),
            "missing_hypotheses": second.missing,
            "wer": {
                **breakdowns.counts_row(total_counts(second.words)),
                "ci95": _wer_interval(second.words, draws, seed),
            },
        },
    }


def add_translation(
    report: Report,
    scored: Scored,
    against: Scored | None = None,
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> None:
    """Adds BLEU and chrF, and how far they are above those of a second system."""
    report["translation"] = score_translations(scored, draws=draws, seed=seed)
    if against is not None:
        report["translation_comparison"] = compare_translations(
            scored, against, draws=draws, seed=seed
        )

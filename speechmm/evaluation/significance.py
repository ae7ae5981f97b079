"""Computes bootstrap intervals of a rate, and tests a difference between two systems (MAPSSWE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechmm.evaluation.error_rate import UtteranceErrors
from speechmm.options import BOOTSTRAP_DRAWS

CELLS = 2_000_000  # rows x draws held at a time: bounds memory to about 50 MB
MIN_SPEAKERS = 5
"""With fewer speakers than this, resampling speakers says nothing."""
BUFFER_WORDS = 2  # words both systems have right that separate two segments, as in NIST's sc_stats


def resample_sums(
    rows: NDArray[np.float64], *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Sums of the columns over rows drawn with replacement, ``draws`` times.

    Args:
        rows: One row per utterance (or speaker), one column per quantity.
        draws: How often as many rows as there are get drawn.
        seed: Of the draws; the same seed draws the same rows.

    Returns:
        One row of sums per draw. Columns share their draws, so ratios of them can be taken.
    """
    count = len(rows)
    random = np.random.default_rng(seed)
    step = max(1, CELLS // max(1, count))
    sums = []
    for begin in range(0, draws, step):
        size = min(step, draws - begin)
        picks = random.integers(0, count, size=(size, count))
        picks += np.arange(size)[:, None] * count
        times = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count)
        sums.append(times.astype(np.float64) @ rows)
    return np.concatenate(sums)


def sums_by_speaker(
    rows: NDArray[np.float64], speakers: Sequence[str]
) -> NDArray[np.float64] | None:
    """Rows added up by speaker: what one says depends on what else they say.

    None where a speaker is not known, or there are too few of them.

    Args:
        rows: One row per utterance.
        speakers: Of each; "" where not known.
    """
    if len(speakers) != len(rows) or not all(speakers) or len(set(speakers)) < MIN_SPEAKERS:
        return None
    _, group = np.unique(speakers, return_inverse=True)
    sums = np.zeros((group.max() + 1, rows.shape[1]))
    np.add.at(sums, group, rows)
    return sums


def interval95(
    above: NDArray[np.float64], below: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Middle 95 % of the ratios of resampled sums; None where nothing was drawn to divide by."""
    drawn = below > 0
    if not drawn.any():
        return None
    low, high = np.percentile(above[drawn] / below[drawn], [2.5, 97.5])
    return float(low), float(high)


def bootstrap_rate(
    errors: Sequence[float | int],
    units: Sequence[float | int],
    *,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of sum(errors) / sum(units), utterances drawn with replacement.

    None where there are no units at all.

    Source: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR
    performance evaluation".
    """
    if len(errors) == 0:
        return None
    rows = np.column_stack([np.asarray(errors, np.float64), np.asarray(units, np.float64)])
    sums = resample_sums(rows, draws=draws, seed=seed)
    return interval95(sums[:, 0], sums[:, 1])


@dataclass(frozen=True)
class Comparison:
    """A system against another on the same references."""

    wer_difference: float
    """WER of the first minus WER of the second, a fraction: below 0 the first is better."""
    ci95: tuple[float, float] | None
    """95 % interval of the difference by paired bootstrap over utterances."""
    ci95_speakers: tuple[float, float] | None
    """The same over speakers; None where they are not known or too few."""
    p_value: float
    """Of no difference, two-sided, by the matched-pair test over segments."""
    segments: int
    """Segments in which at least one of the systems erred."""
    probability_better: float
    """Share of bootstrap draws in which the first has the lower WER, ties counted half."""
    test: str = "mapsswe"


def compare_systems(
    first: Sequence[UtteranceErrors],
    second: Sequence[UtteranceErrors],
    *,
    speakers: Sequence[str] = (),
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compares two systems, utterance by utterance scored on the same references.

    Source: Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition
    algorithms" (matched pairs); Bisani and Ney 2004 (paired bootstrap).

    Args:
        first: Utterances of a system.
        second: The same ones of another.
        speakers: Of the utterances, "" where not known.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """
    pairs = [pair for a, b in zip(first, second, strict=True) for pair in error_segments(a, b)]
    errors_a = np.asarray([one.counts.errors for one in first], np.float64)
    errors_b = np.asarray([one.counts.errors for one in second], np.float64)
    words = np.asarray([one.counts.reference_words for one in first], np.float64)
    rows = np.column_stack([errors_a - errors_b, words])
    sums = resample_sums(rows, draws=draws, seed=seed)
    by_speaker = None
    speaker_rows = sums_by_speaker(rows, speakers)
    if speaker_rows is not None:
        drawn = resample_sums(speaker_rows, draws=draws, seed=seed)
        by_speaker = interval95(drawn[:, 0], drawn[:, 1])
    total = float(words.sum())
    return Comparison(
        wer_difference=float((errors_a - errors_b).sum()) / total if total else 0.0,
        ci95=interval95(sums[:, 0], sums[:, 1]),
        ci95_speakers=by_speaker,
        p_value=matched_pair_p([a - b for a, b in pairs]),
        segments=len(pairs),
        probability_better=float((sums[:, 0] < 0).mean() + 0.5 * (sums[:, 0] == 0).mean()),
    )


def error_segments(
    first: UtteranceErrors, second: UtteranceErrors, *, buffer: int = BUFFER_WORDS
) -> list[tuple[int, int]]:
    """Errors of both systems in each segment of an utterance in which at least one of them erred.

    Segments end where both have ``buffer`` words in a row right, and with the utterance: errors
    of one segment then hardly depend on those of another.
    """
    if not (first.counts.errors or second.counts.errors):
        return []
    wrong_a, wrong_b = _errors_by_slot(first), _errors_by_slot(second)
    segments: list[tuple[int, int]] = []
    errors_a = errors_b = run = 0
    # Slots alternate: before word 0, word 0, before word 1, word 1, ... after the last word.
    for slot, (a, b) in enumerate(zip(wrong_a, wrong_b, strict=True)):
        if a or b:
            errors_a, errors_b, run = errors_a + a, errors_b + b, 0
        elif slot % 2:
            run += 1
            if run >= buffer and (errors_a or errors_b):
                segments.append((errors_a, errors_b))
                errors_a = errors_b = 0
    if errors_a or errors_b:
        segments.append((errors_a, errors_b))
    return segments


def _errors_by_slot(one: UtteranceErrors) -> list[int]:
    """Errors at each word (odd slots) and insertions between words (even slots)."""
    slots = [0] * (2 * len(one.reference) + 1)
    for op, start, end, hyp_start, hyp_end in one.chunks:
        if op == "insertion":
            slots[2 * start] += hyp_end - hyp_start
        elif op != "hit":
            for word in range(start, end):
                slots[2 * word + 1] += 1
    return slots


def matched_pair_p(differences: Sequence[int | float]) -> float:
    """Two-sided p-value that the mean of paired differences is zero.

    By Student's t with one degree of freedom less than there are pairs: the normal distribution,
    which NIST's sc_stats takes, finds a difference too often in fewer than 50. Pairs that all differ
    by the same amount leave no spread to judge by: their sign is tested instead.

    Source: Student 1908, "The probable error of a mean".
    """
    from scipy import special

    values = np.asarray(differences, np.float64)
    count = len(values)
    if count == 0 or not values.any():
        return 1.0
    deviation = float(values.std(ddof=1)) if count > 1 else 0.0
    if deviation == 0.0:
        return float(min(1.0, 2.0 * 0.5**count))
    statistic = abs(float(values.mean())) / (deviation / math.sqrt(count))
    return float(2 * special.stdtr(count - 1, -statistic))

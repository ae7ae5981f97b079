"""How sure a rate, or a difference between two systems, is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
CHUNK = 100  # draws at a time, to bound memory


def bootstrap_rate(
    errors: Sequence[float | int],
    units: Sequence[float | int],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of sum(errors) / sum(units), utterances drawn with replacement.

    Source: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR".
    """
    return bootstrap_ratio(np.asarray(errors, float), np.asarray(units, float), draws, seed)


def bootstrap_ratio(
    above: NDArray[Any], below: NDArray[Any], draws: int, seed: int
) -> tuple[float, float]:
    """95 % interval of sum(above) / sum(below) over resampled rows."""
    count = len(above)
    if count == 0 or below.sum() == 0:
        return (0.0, 0.0)
    random = np.random.default_rng(seed)
    ratios = []
    for begin in range(0, draws, CHUNK):
        picks = random.integers(0, count, size=(min(CHUNK, draws - begin), count))
        totals = below[picks].sum(axis=1)
        ratios.append(above[picks].sum(axis=1) / np.maximum(totals, 1e-12))
    low, high = np.percentile(np.concatenate(ratios), [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """Second system minus first."""

    wer_difference: float
    ci95: tuple[float, float]
    p_value: float
    test: str = "mapsswe"


def compare_systems(
    errors_a: Sequence[int],
    errors_b: Sequence[int],
    words: Sequence[int],
    *,
    seed: int = 0,
) -> Comparison:
    """Matched-pair test over utterances of two systems on the same references.

    The segments of the test are utterances. Two-sided p-value of the mean difference in errors.
    Source: Gillick and Cox 1989, "Some statistical issues in the comparison of speech
    recognition algorithms"; Pallett et al. 1990.
    """
    difference = np.asarray(errors_b, float) - np.asarray(errors_a, float)
    total = float(np.sum(words))
    interval = bootstrap_ratio(difference, np.asarray(words, float), DRAWS, seed)
    return Comparison(
        float(difference.sum() / total) if total else 0.0, interval, matched_pair_p(difference)
    )


def matched_pair_p(difference: NDArray[Any]) -> float:
    """Two-sided normal p-value that the mean of paired differences is zero."""
    count = len(difference)
    if count < 2 or not np.any(difference):
        return 1.0
    deviation = float(difference.std(ddof=1))
    if deviation == 0:
        return 0.0
    statistic = abs(float(difference.mean())) / (deviation / math.sqrt(count))
    return math.erfc(statistic / math.sqrt(2))

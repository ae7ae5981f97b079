"""Measures and fits the calibration of word confidences: expected error, Platt scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechmm.evaluation.report_types import BinRow

BINS = 15
_FIRM = 1e-3  # pull towards leaving confidences as they are, where there is little to learn from
_MAX_STEPS = 50
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Bin:
    """Words of about the same confidence."""

    low: float
    high: float
    words: int
    confidence: float
    """Their mean confidence."""
    correct: float
    """The share of them that is right."""

    def to_row(self) -> BinRow:
        """What a report holds of it."""
        return {
            "low": self.low,
            "high": self.high,
            "words": self.words,
            "confidence": self.confidence,
            "correct": self.correct,
        }


def reliability(
    confidences: Sequence[float], correct: Sequence[bool], *, bins: int = BINS
) -> list[Bin]:
    """Words in ``bins`` equal ranges of confidence; empty ones are left out.

    Args:
        confidences: In [0, 1].
        correct: Whether each word is right.
        bins: Ranges.
    """
    values, right = np.asarray(confidences, np.float64), np.asarray(correct, np.float64)
    place = np.minimum((values * bins).astype(int), bins - 1)
    found = []
    for index in np.unique(place):
        group = place == index
        found.append(
            Bin(
                low=float(index / bins),
                high=float((index + 1) / bins),
                words=int(group.sum()),
                confidence=float(values[group].mean()),
                correct=float(right[group].mean()),
            )
        )
    return found


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], *, bins: int = BINS
) -> float:
    """Mean distance between confidence and share of right words, weighted by words; 0 for none.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    groups = reliability(confidences, correct, bins=bins)
    words = sum(group.words for group in groups)
    total = sum(group.words * abs(group.confidence - group.correct) for group in groups)
    return total / words if words else 0.0


def logit(values: Sequence[float]) -> NDArray[np.float64]:
    """Log-odds of probabilities, those of 0 and 1 made finite."""
    inside = np.clip(np.asarray(values, np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.log(inside) - np.log1p(-inside)


def fit_calibration(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[float, float]:
    """Scale and bias of the log-odds of confidences under which the right words are likeliest.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", by Newton's method.

    Args:
        confidences: In [0, 1].
        correct: Whether each word is right.
    """
    x = logit(confidences)
    design = np.column_stack([x, np.ones_like(x)])
    sign = 2 * np.asarray(correct, np.float64) - 1
    start = np.array([1.0, 0.0])

    def cost(weights: NDArray[np.float64]) -> float:
        missed = np.logaddexp(0.0, -sign * (design @ weights)).mean()
        return float(missed + 0.5 * _FIRM * ((weights - start) ** 2).sum())

    found = start
    for _ in range(_MAX_STEPS):
        wrong = np.exp(-np.logaddexp(0.0, sign * (design @ found)))
        slope = -design.T @ (sign * wrong) / len(x) + _FIRM * (found - start)
        bend = design.T @ ((wrong * (1 - wrong))[:, None] * design) / len(x) + _FIRM * np.eye(2)
        step = np.linalg.solve(bend, slope)
        while cost(found - step) > cost(found) and float(np.abs(step).max()) > _SMALLEST:
            step = step / 2
        found = found - step
        if float(np.abs(step).max()) <= _SMALLEST:
            break
    return float(found[0]), float(found[1])

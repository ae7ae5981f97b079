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
_SMALLEST_SCALE = 0.05  # confidences that say nothing become nearly one value, in their order


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


def equal_mass_error(
    confidences: Sequence[float], correct: Sequence[bool], *, bins: int = BINS
) -> float:
    """The expected calibration error with equally many words in each bin; 0 for none.

    Where most words have high confidences, equal ranges put them all into one or two bins.

    Source: Nixon et al. 2019, "Measuring calibration in deep learning" (adaptive calibration error).
    """
    order = np.argsort(np.asarray(confidences, np.float64), kind="stable")
    if len(order) == 0:
        return 0.0
    values = np.asarray(confidences, np.float64)[order]
    right = np.asarray(correct, np.float64)[order]
    parts = zip(np.array_split(values, bins), np.array_split(right, bins), strict=True)
    gaps = [abs(float(a.sum() - b.sum())) for a, b in parts if len(a)]
    return sum(gaps) / len(values)


def logit(values: Sequence[float]) -> NDArray[np.float64]:
    """Log-odds of probabilities, those of 0 and 1 made finite."""
    inside = np.clip(np.asarray(values, np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.log(inside) - np.log1p(-inside)


def fit_calibration(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[float, float]:
    """Scale and bias of the log-odds of confidences under which the right words are likeliest.

    The scale is above 0 whatever the data: calibrating never turns the order of confidences round.

    Args:
        confidences: In [0, 1].
        correct: Whether each word is right.
    """
    scale, bias = calibration_line(confidences, correct)
    if scale >= _SMALLEST_SCALE:
        return scale, bias
    scaled = _SMALLEST_SCALE * logit(confidences)
    _, bias = _newton(
        np.column_stack([np.zeros_like(scaled), np.ones_like(scaled)]), correct, scaled
    )
    return _SMALLEST_SCALE, bias


def calibration_line(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[float, float]:
    """Slope and intercept of the log-odds of being right over the log-odds of confidences.

    1 and 0 where confidences mean what they say; a slope below 1 is overconfidence at both ends.

    Source: Cox 1958, "Two further applications of a model for binary regression"; Platt 1999,
    "Probabilistic outputs for support vector machines". By Newton's method.

    Args:
        confidences: In [0, 1].
        correct: Whether each word is right.
    """
    x = logit(confidences)
    return _newton(np.column_stack([x, np.ones_like(x)]), correct, np.zeros_like(x))


def _newton(
    design: NDArray[np.float64], correct: Sequence[bool], offset: NDArray[np.float64]
) -> tuple[float, float]:
    """The two weights of a logistic regression with something fixed added to its log-odds.

    Args:
        design: Two columns.
        correct: What is to be told, of each row.
        offset: What is added.
    """
    sign = 2 * np.asarray(correct, np.float64) - 1
    start = np.array([1.0, 0.0])

    def cost(weights: NDArray[np.float64]) -> float:
        missed = np.logaddexp(0.0, -sign * (design @ weights + offset)).mean()
        return float(missed + 0.5 * _FIRM * ((weights - start) ** 2).sum())

    found = start
    for _ in range(_MAX_STEPS):
        wrong = np.exp(-np.logaddexp(0.0, sign * (design @ found + offset)))
        slope = -design.T @ (sign * wrong) / len(design) + _FIRM * (found - start)
        bend = design.T @ ((wrong * (1 - wrong))[:, None] * design) / len(design)
        step = np.linalg.solve(bend + _FIRM * np.eye(2), slope)
        while cost(found - step) > cost(found) and float(np.abs(step).max()) > _SMALLEST:
            step = step / 2
        found = found - step
        if float(np.abs(step).max()) <= _SMALLEST:
            break
    return float(found[0]), float(found[1])

"""Turns token probabilities into word confidences, and calibrates those."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from speechmm.models.bundle import Bundle

_SMALLEST = 1e-6


def mean_probability(log_probs: Sequence[float]) -> float:
    """The geometric mean of probabilities given as natural logs, in [0, 1]; 0 for none."""
    if not log_probs:
        return 0.0
    return min(1.0, math.exp(sum(log_probs) / len(log_probs)))


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: a line through log-odds; the default leaves confidences as they are."""

    scale: float = 1.0
    bias: float = 0.0

    def __call__(self, confidence: float) -> float:
        """The calibrated confidence of a word, in [0, 1]."""
        if self == Calibration():
            return confidence
        inside = min(max(confidence, _SMALLEST), 1 - _SMALLEST)
        odds = self.scale * math.log(inside / (1 - inside)) + self.bias
        return 1 / (1 + math.exp(-odds))

    @classmethod
    def of(cls, bundle: Bundle, decoder: str) -> Calibration:
        """The calibration that ``speechmm calibrate`` has put into a bundle, for a decoder."""
        found = bundle.confidence.get(decoder)
        return cls() if found is None else cls(found.scale, found.bias)

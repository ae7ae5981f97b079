"""Turns token probabilities into word confidences, and calibrates those."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from speechmm.inference.alignment.viterbi import Floats, ctc_states, monotonic_path, required_frames
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.bundle import Bundle
from speechmm.models.speech_text import SpeechEncoding

_SMALLEST = 1e-6
DOUBTED_LOG_PROB = -5.0
"""A token whose highest probability by CTC is this (natural log) loses half of its own."""


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
    def of(cls, bundle: Bundle, options: SearchOptions) -> Calibration:
        """The calibration that ``speechmm calibrate`` has put into a bundle, for how it is searched."""
        found = bundle.confidence.get(options.searched_by)
        return cls() if found is None else cls(found.scale, found.bias)


@torch.inference_mode()
def heard_by_ctc(
    bundle: Bundle, encoding: SpeechEncoding, hypotheses: Sequence[Hypothesis]
) -> list[list[float]]:
    """The log-probabilities of the tokens of each utterance, less where CTC hears nothing like them.

    The decoder can be sure of what it would say next without anything being said. CTC hears no
    context, so it is asked where each token could be: on its best path through all of them, the
    highest probability of the token. What CTC gives a thousandth keeps nearly all of its
    probability, what it gives a millionth little of it.

    Args:
        bundle: The model; without CTC the log-probabilities stay as they are.
        encoding: The encoded speech.
        hypotheses: Of the attention decoder, one an utterance.
    """
    own = [list(one.token_log_probs) for one in hypotheses]
    if "ctc" not in bundle.heads:
        return own
    log_probs = bundle.model.ctc_log_probs(encoding).float().cpu().numpy()
    lengths = encoding.enc_lengths.tolist()
    for row, one in enumerate(hypotheses):
        peaks = _ctc_peaks(log_probs[row, : lengths[row]], one.tokens)
        for place, (token, peak) in enumerate(zip(one.tokens, peaks, strict=True)):
            if token != bundle.tokenizer.separator:  # of spaces some models write none
                own[row][place] -= float(np.logaddexp(0.0, DOUBTED_LOG_PROB - peak))
    return own


def _ctc_peaks(log_probs: Floats, tokens: Sequence[int]) -> list[float]:
    """The highest log-probability of each token on CTC's best path; where there is no path, anywhere."""
    columns, skippable = ctc_states(tokens)
    if required_frames(skippable) > len(log_probs):
        return [float(log_probs[:, token].max()) for token in tokens]
    states = monotonic_path(log_probs, skippable=skippable, columns=columns)
    along = log_probs[np.arange(len(states)), columns[states]]
    peaks = np.full(len(columns), -np.inf, np.float32)
    np.maximum.at(peaks, states, along)
    return [float(peak) for peak in peaks[1::2]]

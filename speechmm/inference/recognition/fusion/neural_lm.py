"""Scores hypotheses with a neural language model over the same tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.inference.recognition.fusion.scorer import rows_of
from speechmm.models.kv_cache import DecoderCache
from speechmm.models.language_model import LanguageModel


class LanguageModelScorer:
    """Shallow fusion with a language model over the same tokens, all hypotheses in one step.

    Source: Gulcehre et al. 2015, "On Using Monolingual Corpora in Neural Machine Translation".
    """

    most_per_token = 0.0

    def __init__(self, model: LanguageModel, weight: float):
        """Keeps the model, which is to be in evaluation mode, and the weight of its scores."""
        self.model = model
        self.weight = weight

    def start(self, batch: int, device: torch.device) -> _LanguageModelState:
        """The state of ``batch`` empty hypotheses."""
        return _LanguageModelState(self.model.to(device), batch)


class _LanguageModelState:
    def __init__(self, model: LanguageModel, batch: int):
        self.model = model
        self.cache: DecoderCache = model.start(batch)
        self.next_log_probs = model.step(None, self.cache).log_softmax(dim=-1)

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """Log-probabilities of the next token."""
        return self.next_log_probs

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """One step of the model for all hypotheses."""
        self.cache.reorder(rows)
        self.next_log_probs = self.model.step(tokens, self.cache).log_softmax(dim=-1)

    def keep_utterances(self, utterances: Int[Tensor, " left"], beams: int) -> None:
        """Drops the texts of all others."""
        self.cache.keep_utterances(utterances)
        self.next_log_probs = self.next_log_probs[rows_of(utterances, beams)]

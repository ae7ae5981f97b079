"""Defines external scores: what a scorer must offer, and their weighted sum in one search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.text.tokenizer import SPACE, Tokenizer


@runtime_checkable
class ScorerState(Protocol):
    """The hypotheses of one running search, as one scorer sees them."""

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """What each next token would add to the score of each hypothesis (natural log)."""
        ...

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Hypothesis ``i`` becomes what ``rows[i]`` was, with ``tokens[i]`` appended."""
        ...

    def keep_utterances(self, utterances: Int[Tensor, " left"], beams: int) -> None:
        """Drops all other utterances; each has ``beams`` hypotheses, one after the other."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """An external score that a beam search adds to the model's own (shallow fusion)."""

    weight: float
    most_per_token: float
    """The most that one more token can add, before the weight: 0 for log-probabilities."""

    def start(self, batch: int, device: torch.device) -> ScorerState:
        """The state of ``batch`` empty hypotheses."""
        ...


class Fusion:
    """The external scores of one running search: their states and weighted sum."""

    def __init__(self, scorers: Sequence[Scorer], batch: int, device: torch.device):
        self.weights = [scorer.weight for scorer in scorers]
        self.states = [scorer.start(batch, device) for scorer in scorers]
        self.most_per_token: float = sum(s.weight * s.most_per_token for s in scorers)
        """The most that one more token can add, weights included."""

    def scores(self) -> Float[Tensor, "rows vocab"] | None:
        """What all scorers together add per next token; None where there are no scorers."""
        total: Tensor | None = None
        for state, weight in zip(self.states, self.weights, strict=True):
            part = weight * state.scores()
            total = part if total is None else total + part
        return total

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Every scorer follows the hypotheses that the search has kept."""
        for state in self.states:
            state.advance(rows, tokens)

    def keep_utterances(self, utterances: Int[Tensor, " left"], beams: int) -> None:
        """Every scorer drops all other utterances, which have ``beams`` hypotheses each."""
        for state in self.states:
            state.keep_utterances(utterances, beams)


def rows_of(utterances: Int[Tensor, " left"], beams: int) -> Int[Tensor, " rows"]:
    """The rows of some utterances' hypotheses, ``beams`` each."""
    places = torch.arange(beams, device=utterances.device)
    return (utterances[:, None] * beams + places).view(-1)


def word_starts(tokenizer: Tokenizer) -> list[int]:
    """Ids after which a new word has begun: the space piece, or the pieces that begin with it."""
    return [i for i, piece in enumerate(tokenizer.pieces) if piece.startswith(SPACE)]

"""Collects the ended hypotheses of a beam search on the device, and reads them back once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from speechmm.inference.engine.finite import refuse_nan
from speechmm.inference.recognition.hypothesis import Hypothesis

IMPOSSIBLE = float("-inf")
"""Score of what is ruled out."""


@dataclass(frozen=True)
class _Step:
    """What was kept in one step, by which beam of the step before it."""

    utterances: list[int]
    """Index in the first batch of each row."""
    parents: Int[Tensor, "batch beams"]
    tokens: Int[Tensor, "batch beams"]
    log_probs: Float[Tensor, "batch beams"]


class _Left(NamedTuple):
    """The results of utterances that are no longer searched."""

    utterances: list[int]
    scores: Float[Tensor, "batch count"]
    places: Int[Tensor, "batch count"]


class EndedHypotheses:
    """The best ended hypotheses of every utterance, each with its way back to the first token.

    Scores are natural logs. Nothing is read by the host before :meth:`read`.
    """

    def __init__(self, batch: int, count: int, beam: int, device: torch.device):
        """None yet.

        Args:
            batch: Utterances.
            count: Hypotheses of an utterance to keep.
            beam: Most hypotheses of an utterance in a step.
            device: Where the search runs.
        """
        self.batch, self.count, self.beam = batch, count, beam
        self.utterances = list(range(batch))
        """Index in the batch of each utterance still searched."""
        self.scores = torch.full((batch, count), IMPOSSIBLE, device=device)
        """Best first; -inf where there are fewer, NaN where a score was not a number."""
        self._places = torch.zeros(batch, count, dtype=torch.long, device=device)
        """Where each ended: step x beam + place in the beam."""
        self._steps: list[_Step] = []
        self._left: list[_Left] = []

    def record(
        self,
        parents: Int[Tensor, "batch beams"],
        tokens: Int[Tensor, "batch beams"],
        log_probs: Float[Tensor, "batch beams"],
        ended: Float[Tensor, "batch beams"],
    ) -> None:
        """Notes one step.

        Args:
            parents: The place in the beam, one step before, that each hypothesis extends.
            tokens: The token it is extended by.
            log_probs: That token's log-probability.
            ended: The score of those that have ended now, -inf of the others.
        """
        places = torch.arange(tokens.shape[1], device=tokens.device) + len(self._steps) * self.beam
        self._steps.append(_Step(self.utterances, parents, tokens, log_probs))
        scores = torch.cat([self.scores, ended], dim=1)
        every_place = torch.cat([self._places, places.expand_as(tokens)], dim=1)
        # Stable: of equal scores the one found first stands first.
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        self.scores = scores[:, : self.count]
        self._places = every_place.gather(1, order[:, : self.count])

    def keep_utterances(self, alive: Int[Tensor, " left"], numbers: list[int]) -> None:
        """Lets go of finished utterances.

        Args:
            alive: Rows of the utterances that are searched further.
            numbers: The same, known to the host.
        """
        self._left.append(_Left(self.utterances, self.scores, self._places))
        self.utterances = [self.utterances[row] for row in numbers]
        self.scores, self._places = self.scores[alive], self._places[alive]

    def read(self) -> list[list[Hypothesis]]:
        """The hypotheses of every utterance, best first.

        Raises:
            CheckpointError: A score was not a number.
        """
        self._left.append(_Left(self.utterances, self.scores, self._places))
        steps, left = self._steps, self._left
        # Everything in one copy to the host: floats travel as the integers of the same bits.
        reals = [step.log_probs for step in steps] + [one.scores for one in left]
        places = [one.places for one in left]
        whole = [step.parents for step in steps] + [step.tokens for step in steps] + places
        flat = torch.cat(
            [
                torch.cat([one.reshape(-1).float() for one in reals]).view(torch.int32),
                torch.cat([one.reshape(-1) for one in whole]).to(torch.int32),
            ]
        )
        numbers = flat.cpu().numpy()
        arrays = _shaped(numbers, [*reals, *whole])
        count = len(steps)
        log_probs = [one.view(np.float32) for one in arrays[:count]]
        scores, places_found = self._by_utterance(
            [one.view(np.float32) for one in arrays[count : len(reals)]], arrays[-len(left) :]
        )
        refuse_nan(bool(np.isnan(scores).any()))
        parents, tokens = arrays[len(reals) :][:count], arrays[len(reals) + count :][:count]
        texts, probabilities = self._traced(places_found, parents, tokens, log_probs)
        lengths = places_found // self.beam  # the end itself is no token
        return [
            [
                Hypothesis(
                    texts[row, rank, : lengths[row, rank]].tolist(),
                    float(scores[row, rank]),
                    probabilities[row, rank, : lengths[row, rank]].tolist(),
                )
                for rank in range(self.count)
                if scores[row, rank] > IMPOSSIBLE
            ]
            for row in range(self.batch)
        ]

    def _by_utterance(
        self, scores: list[NDArray[np.float32]], places: list[NDArray[np.int32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scores and places by utterance of the first batch: what was noted last counts."""
        all_scores = np.full((self.batch, self.count), IMPOSSIBLE, np.float32)
        all_places = np.zeros((self.batch, self.count), np.int32)
        for left, some_scores, some_places in zip(self._left, scores, places, strict=True):
            all_scores[left.utterances] = some_scores
            all_places[left.utterances] = some_places
        return all_scores, all_places

    def _traced(
        self,
        places: NDArray[np.int32],
        parents: list[NDArray[np.int32]],
        tokens: list[NDArray[np.int32]],
        log_probs: list[NDArray[np.float32]],
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Tokens and their log-probabilities, (batch, count, steps), walked back from the ends."""
        steps = len(self._steps)
        texts = np.zeros((*places.shape, steps), np.int32)
        probabilities = np.zeros((*places.shape, steps), np.float32)
        last, beams = places // self.beam, places % self.beam
        for step in reversed(range(steps)):
            row_of = np.full(self.batch, -1)
            utterances = self._steps[step].utterances
            row_of[utterances] = np.arange(len(utterances))
            # which results are that long; an utterance let go before has none
            utterance, rank = np.nonzero((last >= step) & (row_of[:, None] >= 0))
            rows, at = row_of[utterance], beams[utterance, rank]
            texts[utterance, rank, step] = tokens[step][rows, at]
            probabilities[utterance, rank, step] = log_probs[step][rows, at]
            beams[utterance, rank] = parents[step][rows, at]
        return texts, probabilities


def _shaped(numbers: NDArray[np.int32], like: list[Tensor]) -> list[NDArray[np.int32]]:
    """Cuts one flat array into arrays of the shapes of these tensors."""
    ends = np.cumsum([one.numel() for one in like])
    parts = np.split(numbers, ends[:-1])
    return [part.reshape(tuple(one.shape)) for part, one in zip(parts, like, strict=True)]

"""Strings the states of a text together: three for each token, one for silence between words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechmm.errors import AlignmentError
from speechmm.inference.alignment.viterbi import Floats, Ints, check_memory
from speechmm.models.kernels import loading

_BYTES_A_CELL = 12  # of a frame and a state: its score, its occupancy, and one to search with
STATES_A_TOKEN = 3
"""The first frame of a token, those between, and the last."""
SILENCE_COLUMN = 0
_FIRST, _BETWEEN, _LAST = range(STATES_A_TOKEN)
_THIRD, _HALF = math.log(1 / 3), math.log(0.5)
PAUSE = -8.0
"""Log-probability of a pause between two words. The closure of a stop at the start of a word sounds like
one; a pause speaks for itself for longer."""


def state_columns(units: int) -> int:
    """Columns of the scores: one for silence, three for each unit."""
    return 1 + STATES_A_TOKEN * units


@dataclass(frozen=True)
class StateGraph:
    """The states of one text, from left to right.

    The first and the last state of a token last one frame, and a token may consist of the first
    alone: a frame. What is between may last any time. Silence may be left out. Source of the
    topology: Montreal Forced Aligner (McAuliffe et al. 2017, and its ``topo`` since version 2).
    """

    columns: Ints
    """(states,): the column of the scores that each emits."""
    tokens: Ints
    """(states,): the token that each belongs to."""
    enter: Floats
    """(states, 5): log-probability of coming from the same state, and from one to four before."""
    begin: Floats
    """(states,): log-probability of a path's first state."""
    finish: Floats
    """(states,): of its last."""

    @classmethod
    def of(cls, units: Sequence[int], silent: Sequence[bool]) -> StateGraph:
        """The states of a text.

        Args:
            units: The unit of each token, counted from 0; of silences anything.
            silent: Whether a token is silence, which stands alone between words.
        """
        columns: list[int] = []
        tokens: list[int] = []
        firsts: list[int] = []
        for token, (unit, quiet) in enumerate(zip(units, silent, strict=True)):
            firsts.append(len(columns))
            own = range(1) if quiet else range(STATES_A_TOKEN)
            columns += [
                SILENCE_COLUMN if quiet else 1 + STATES_A_TOKEN * unit + part for part in own
            ]
            tokens += [token] * len(own)
        enter = np.full((len(columns), 5), -np.inf, np.float32)
        begin, finish = (np.full(len(columns), -np.inf, np.float32) for _ in range(2))
        spoken = [token for token, quiet in enumerate(silent) if not quiet]
        for token in spoken:
            first = firsts[token]
            enter[first + _BETWEEN, :2] = _HALF, _THIRD
            enter[first + _LAST, 1:3] = _HALF, _THIRD
        for token, quiet in enumerate(silent):
            if quiet:
                enter[firsts[token], 0] = 0.0
            begun = PAUSE if quiet and token < len(silent) - 1 else 0.0
            # What may come before: the token before, and the one before a silence.
            for before in range(max(0, token - 2), token):
                if before < token - 1 and not silent[token - 1]:
                    continue
                for state, weight in _exits(firsts[before], silent[before]):
                    enter[firsts[token], firsts[token] - state] = weight + begun
        for token in spoken[:1]:
            begin[: firsts[token] + 1] = 0.0
        for token in spoken[-1:]:
            for state, weight in _exits(firsts[token], quiet=False):
                finish[state] = weight
            finish[firsts[token] + STATES_A_TOKEN :] = 0.0
        return cls(np.array(columns), np.array(tokens), enter, begin, finish)

    def _emitted(self, scores: Floats, scale: float = 1.0) -> Floats:
        """The scores of each state, (frames, states).

        Raises:
            AlignmentError: A search over them would take too much memory.
        """
        frames, states = len(scores), len(self.columns)
        check_memory(frames, states, _BYTES_A_CELL * frames * states)
        chosen = scores[:, self.columns]  # a copy
        if scale != 1.0:
            chosen *= scale
        emitted: Floats = np.ascontiguousarray(chosen, np.float32)
        return emitted

    def best_path(self, scores: Floats) -> Ints:
        """The state of each frame on the likeliest path.

        Args:
            scores: (frames, columns), log-likelihoods up to a constant a frame.

        Raises:
            AlignmentError: Fewer frames than tokens, or so many of both that memory would not do.
        """
        path = np.empty(len(scores), np.int64)
        emitted = self._emitted(scores)
        kernel = loading.load("state_paths")
        if not kernel.best_path(emitted, self.enter, self.begin, self.finish, path):
            raise AlignmentError(
                f"{len(scores)} frames cannot hold {len(set(self.tokens.tolist()))} tokens; expected a "
                "frame for each. Check that the text belongs to the audio."
            )
        return path

    def log_likelihood(self, scores: Floats) -> float:
        """Log of the sum of all paths; -inf where there is none.

        Args:
            scores: (frames, columns), log-likelihoods up to a constant a frame.
        """
        emitted = self._emitted(scores)
        by_state = np.zeros(emitted.shape, np.float32)
        kernel = loading.load("state_paths")
        return float(kernel.occupancies(emitted, self.enter, self.begin, self.finish, by_state))

    def occupancy(self, scores: Floats, *, tokens: int, scale: float = 1.0) -> Floats:
        """The share of all paths, by their probability, that have each token in each frame.

        Args:
            scores: (frames, columns), log-likelihoods up to a constant a frame.
            tokens: Of the text.
            scale: Power to which the probability of a whole path is raised, its moves and pauses with
                its scores: if scores alone were flattened, the moves would decide where edges are.

        Returns:
            (frames, tokens); 0 where there is no path.
        """
        emitted = self._emitted(scores, scale)
        by_state = np.zeros(emitted.shape, np.float32)
        kernel = loading.load("state_paths")
        moves = (np.float32(scale) * one for one in (self.enter, self.begin, self.finish))
        kernel.occupancies(emitted, *moves, by_state)
        starts = np.searchsorted(self.tokens, np.arange(tokens))
        summed: Floats = np.add.reduceat(by_state, starts, axis=1)
        return summed

    def split(self, token_path: Ints) -> Ints:
        """A path through tokens as one through states: first frame, those between, last."""
        starts = np.searchsorted(self.tokens, np.arange(int(self.tokens[-1]) + 1))
        three = np.diff(np.append(starts, len(self.tokens))) == STATES_A_TOKEN
        changes = np.flatnonzero(np.diff(token_path)) + 1
        path: Ints = starts[token_path] + np.where(three[token_path], _BETWEEN, 0)
        for first, last in zip([0, *changes], [*(changes - 1), len(token_path) - 1], strict=True):
            if three[token_path[first]]:
                path[last] = starts[token_path[first]] + _LAST
                path[first] = starts[token_path[first]] + _FIRST
        return path


def _exits(first: int, quiet: bool) -> list[tuple[int, float]]:
    """The states of a token from which a path may leave it."""
    return [(first, 0.0)] if quiet else [(first + _LAST, 0.0), (first + _FIRST, _THIRD)]

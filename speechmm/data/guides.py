"""Says where the tokens of training utterances are thought to be, so that alignments can begin there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from lhotse import MonoCut
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.manifest import cut_text
from speechmm.data.plan import PlannedUtterance
from speechmm.data.waveforms import speed_factor
from speechmm.text.tokenizer import Tokenizer

Times = Sequence[tuple[float, float]]
"""Start and end of every word of a text, in seconds from the start of an utterance as it was recorded; a
word that could not be placed has no length."""


class Guides:
    """Word times of training utterances, which another aligner found."""

    def __init__(self, times: Mapping[tuple[str, str], Times], tokenizer: Tokenizer):
        """Keeps the times.

        Args:
            times: Of utterances by the name of the mixed set, "" for the training set itself, and the id of
                the cut, of every copy at another speed too.
            tokenizer: Says what tokens the words have.
        """
        self.times = times
        self.tokenizer = tokenizer

    def windows(
        self,
        rows: Sequence[Sequence[PlannedUtterance]],
        frames: Sequence[Sequence[int]],
        features: LogMelConfig,
        *,
        source: str,
        width: int,
    ) -> Float[Tensor, "batch align_tokens 2"]:
        """Where each token of a batch is thought to be, as ``Batch.guides`` has it.

        Args:
            rows: Utterances of each row, one after the other. One that was put together from words of
                others has no times.
            frames: Feature frames of each.
            features: How long a frame is.
            source: Name of the mixed set.
            width: Tokens of the longest row, padding included.
        """
        found = torch.zeros(len(rows), width, 2)
        for number, (row, lengths) in enumerate(zip(rows, frames, strict=True)):
            own = self._row(row, lengths, features, source)
            if own is None:
                found[number] = math.nan
            else:
                found[number, : len(own)] = own
        return found

    def _row(
        self,
        row: Sequence[PlannedUtterance],
        frames: Sequence[int],
        features: LogMelConfig,
        source: str,
    ) -> Float[Tensor, "tokens 2"] | None:
        joined: Tensor | None = None
        before = 0
        for place, one in enumerate(row):
            times = None if one.pieces else self.times.get((source, one.cut.id))
            own = None if times is None else self.token_windows(one.cut, times, features)
            if own is None:
                return None
            own = own + before
            if joined is not None:  # one silence is left where two texts meet
                own = torch.cat([torch.stack([joined[-1, 0], own[0, 1]])[None], own[1:]])
                own = torch.cat([joined[:-1], own])
            joined, before = own, before + frames[place]
        return joined

    def token_windows(
        self, cut: MonoCut, times: Times, features: LogMelConfig
    ) -> Float[Tensor, "tokens 2"] | None:
        """Where each token of ``Tokenizer.encode_aligned`` is thought to be, in frames of a cut.

        A token may be anywhere in its word, silence anywhere between two words; before the first and after
        the last there is no end. Where a word was not placed, it is between its neighbours.

        Args:
            cut: At its speed.
            times: Of its words, as they were recorded.
            features: How long a frame is.

        Returns:
            First and last frame of each, with fractions; None where there are not as many times as words.
        """
        aligned = self.tokenizer.encode_aligned(cut_text(cut))
        if len(times) != len(aligned.words):
            return None
        scale = 1.0 / (speed_factor(cut) * features.frame_shift)
        spoken = list(dict.fromkeys(index for index in aligned.word_indices if index >= 0))
        bounds = {
            index: (scale * times[index][0], scale * times[index][1])
            for index in spoken
            if times[index][1] > times[index][0]
        }
        return torch.tensor(_windows(aligned.word_indices, spoken, bounds))


def _windows(
    owners: Sequence[int], spoken: Sequence[int], bounds: Mapping[int, tuple[float, float]]
) -> list[tuple[float, float]]:
    """The window of each token, by the bounds of the words that were placed."""
    ends, starts = [-math.inf], [math.inf]  # of what was placed before each word, and from it on
    for index in spoken:
        ends.append(bounds[index][1] if index in bounds else ends[-1])
    for index in reversed(spoken):
        starts.append(bounds[index][0] if index in bounds else starts[-1])
    starts.reverse()
    of_word = {
        index: bounds.get(index, (ends[number], starts[number]))
        for number, index in enumerate(spoken)
    }
    places = {index: number for number, index in enumerate(spoken)}
    windows: list[tuple[float, float]] = []
    over = 0  # words before a silence
    for index in owners:
        windows.append((ends[over], starts[over]) if index < 0 else of_word[index])
        over = over if index < 0 else places[index] + 1
    return windows

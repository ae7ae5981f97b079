"""Describes a batch before it is read: which utterances, and which parts of others in their place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lhotse import MonoCut


@dataclass(frozen=True)
class Piece:
    """A run of words of an utterance, and the frames in which they were said."""

    cut: MonoCut
    words: tuple[int, int]
    """The first and the one after the last, counting words that have tokens."""
    first: int
    """Frame."""
    end: int
    """The frame after the last."""


@dataclass(frozen=True)
class PlannedUtterance:
    """An utterance as it is, or pieces of others in its place."""

    cut: MonoCut
    pieces: tuple[Piece, ...] = ()
    """What it is put together from; none for the cut itself."""


@dataclass(frozen=True)
class PlannedText:
    """A text without audio, and how long it is to last."""

    text: str
    frames: int
    """Feature frames it is stretched to."""


@dataclass(frozen=True)
class BatchPlan:
    """What a process that reads audio makes a batch of; small, and without audio."""

    rows: list[list[PlannedUtterance]]
    """One utterance a row, or several, one after the other."""
    unpaired: tuple[PlannedText, ...] = ()
    """Texts that come with the batch."""
    source: str = ""
    """Name of the mixed set it is of; "" for the training set itself."""
    synthetic: bool = False
    """Whether nobody said it: synthetic speech, from which only recognition learns."""

    @staticmethod
    def of(cuts: Iterable[MonoCut]) -> BatchPlan:
        """Every cut as it is."""
        return BatchPlan([[PlannedUtterance(cut)] for cut in cuts])

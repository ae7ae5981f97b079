"""Remembers where the words of training utterances are, as a training step last found them."""

from __future__ import annotations

import logging
from array import array
from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.data.batch import Batch
from speechmm.models.readback import Readback
from speechmm.text.tokenizer import SIL

logger = logging.getLogger(__name__)

MAX_EDGE_VARIANCE = 1.0
"""An edge may be cut if the variances of its two sides, summed over frames, are below this. On AN4, after
20 epochs, 80 % of the edges are, and 4 % of these lie 30 ms or more within a word, not 7 %."""

Voice = tuple[str, float]
"""A speaker at a speed: a recording played faster has another pitch."""

_Known = dict[Voice, dict[str, "array[int]"]]
"""By voice and utterance: frames, first word's begin, last word's end, and for every pause between
two words the frame to cut at, 0 where it had better not be cut."""

_FRAMES, _FIRST, _END, _TOKENS, _COLUMNS = range(5)  # of `find_cuts`


@dataclass(frozen=True)
class WordSource:
    """One utterance whose words can be taken."""

    id: str
    words: list[int]
    """Units ``i`` are words ``words[i]`` to ``words[i + 1]``: one, or several that stay together."""
    edges: list[int]
    """Where to cut, in frames: edge i and i + 1 enclose unit i and half of the pauses around."""
    first: int
    """Frame at which the first word begins."""
    end: int
    """Frame at which the last word is over."""

    @property
    def units(self) -> int:
        """What can be taken."""
        return len(self.words) - 1


@dataclass(frozen=True)
class _Copy:
    """Numbers on their way to the host."""

    ids: list[str]
    voices: list[Voice]
    recombined: list[bool]
    epoch: int
    numbers: Readback


@torch.no_grad()
def find_cuts(
    batch: Batch,
    occupancy: Float[Tensor, "batch aligned_frames tokens"],
    lengths: Int[Tensor, " batch"],
) -> Int[Tensor, "batch columns"]:
    """Where the words of utterances are, on the device of the batch, without asking it anything.

    A token ends after as many frames as it and the tokens before it hold in sum; the variance of
    that number, as if frames were independent, is summed over the end of one word and the beginning
    of the next. Two words may be cut apart where that is small and the sound is soft.

    Args:
        batch: Utterances with features as they were recorded.
        occupancy: Soft alignment of each to its ``align_tokens``.
        lengths: Frames of each in that alignment, more or fewer where the tempo was changed.

    Returns:
        Of each: frames, first frame of the first word, end of the last word, tokens; then for every
        token -1, but for silence between two words the frame to cut at, 0 where there is none.
    """
    device = batch.features.device
    places = torch.arange(occupancy.shape[1], device=device)
    shares = occupancy.float() * (places < lengths[:, None])[:, :, None]
    reached = shares.cumsum(dim=2)  # share in the token or one before it
    frames = batch.feature_lengths
    scale = (frames / lengths.clamp(min=1))[:, None]
    ends = reached.sum(dim=1)
    variance = (reached * (1 - reached)).sum(dim=1)
    before = torch.nn.functional.pad(ends[:, :-1], (1, 0))
    middle = ((before + ends) / 2 * scale).round().long()
    unsure = variance + torch.nn.functional.pad(variance[:, :-1], (1, 0))
    # louder than the usual frame: the lower median of the utterance
    level = batch.features.float().mean(dim=2)
    outside = torch.arange(level.shape[1], device=device) >= frames[:, None]
    ordered = level.masked_fill(outside, torch.inf).sort(dim=1).values
    usual = ordered.gather(1, ((frames - 1) // 2).clamp(min=0)[:, None])
    inside = (middle > 0) & (middle < frames[:, None])
    soft = level.gather(1, middle.clamp(0, level.shape[1] - 1)) < usual
    cuts = torch.where(inside & soft & (unsure < MAX_EDGE_VARIANCE), middle, 0)
    token = torch.arange(ends.shape[1], device=device)
    last = batch.align_lengths[:, None] - 1
    between = (batch.align_tokens == SIL) & (token > 0) & (token < last)
    cuts = torch.where(between, cuts, -1)
    over = ends.gather(1, (last - 1).clamp(min=0))
    outer = torch.cat([frames[:, None], ends[:, :1] * scale, over * scale], dim=1).round()
    return torch.cat([outer.int(), last.int() + 1, cuts.int()], dim=1)


class WordBank:
    """Where the words are of the training utterances this process has seen, by speaker and speed.

    Plans of an epoch use what was known when it began, so that they do not depend on how far
    ahead batches are planned.
    """

    def __init__(self) -> None:
        self._known: _Known = {}
        self._learned: _Known = {}  # in the epoch that goes on
        self._epoch = 0
        self._coming: deque[_Copy] = deque()
        self._pools: dict[Voice, tuple[list[WordSource], list[int]]] = {}

    def learn(
        self,
        batch: Batch,
        occupancy: Float[Tensor, "batch aligned_frames tokens"],
        lengths: Int[Tensor, " batch"],
        epoch: int,
    ) -> None:
        """Remembers where the words of these utterances are, in place of what was known before.

        Nothing waits for a GPU: what it finds is copied while it goes on, and read when it is there.

        Args:
            batch: Utterances with features as they were recorded; those put together in training
                are passed over.
            occupancy: Soft alignment of each to its ``align_tokens``.
            lengths: Frames of each in that alignment, more or fewer where the tempo was changed.
            epoch: Of the training.
        """
        if not all(batch.recombined):
            numbers = Readback(find_cuts(batch, occupancy, lengths))
            voices = list(zip(batch.speakers, batch.speeds, strict=True))
            self._coming.append(_Copy(batch.ids, voices, batch.recombined, epoch, numbers))
        while self._coming and self._coming[0].numbers.ready:
            self._take(self._coming.popleft())

    def finish(self) -> None:
        """Waits for what is still on its way."""
        while self._coming:
            self._take(self._coming.popleft())

    def begin_epoch(self, epoch: int) -> None:
        """From now on plans use what was learned in earlier epochs."""
        self.finish()
        self._pools = {}
        self._advance(epoch)

    def pool(self, voice: Voice, ids: Container[str]) -> tuple[list[WordSource], list[int]]:
        """The utterances of a voice, and how many units each and those before it have.

        Args:
            voice: Whose.
            ids: Those there are; others, of earlier data, are left out.
        """
        if voice not in self._pools:
            known = self._known.get(voice, {})
            sources = [_source(name, numbers) for name, numbers in known.items() if name in ids]
            self._pools[voice] = sources, list(accumulate(one.units for one in sources))
        return self._pools[voice]

    def _take(self, copy: _Copy) -> None:
        self._advance(copy.epoch)
        for row, numbers in enumerate(copy.numbers.tensor().tolist()):
            if copy.recombined[row] or numbers[_TOKENS] < 3:  # silence, a word, silence
                continue
            cuts = [number for number in numbers[_COLUMNS:] if number >= 0]
            kept = array("i", [numbers[_FRAMES], numbers[_FIRST], numbers[_END], *cuts])
            self._learned.setdefault(copy.voices[row], {})[copy.ids[row]] = kept

    def _advance(self, epoch: int) -> None:
        if epoch <= self._epoch:
            return
        for voice, utterances in self._learned.items():
            self._known.setdefault(voice, {}).update(utterances)
        self._learned, self._epoch = {}, epoch

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on exactly, also in the middle of an epoch."""
        self.finish()
        known, learned = _flat(self._known), _flat(self._learned)
        return {"epoch": self._epoch, "known": known, "learned": learned}

    def load_state(self, state: Any) -> None:
        """Goes on from :meth:`state`."""
        if not isinstance(state, dict):
            logger.warning(
                "recombination: the checkpoint is of an earlier version; words are found anew"
            )
            return
        self._coming.clear()
        self._pools = {}
        self._epoch = state["epoch"]
        self._known, self._learned = _unflat(state["known"]), _unflat(state["learned"])


def _source(name: str, numbers: array[int]) -> WordSource:
    frames, first, end, *cuts = numbers
    words, edges = [0], [0]
    for word, cut in enumerate(cuts, start=1):
        if cut > edges[-1]:
            words.append(word)
            edges.append(cut)
    return WordSource(name, [*words, len(cuts) + 1], [*edges, frames], first, end)


def _flat(known: _Known) -> dict[str, Any]:
    """The same as plain lists and one tensor, in the order of each voice."""
    rows = [
        (*voice, name, numbers) for voice, all_ in known.items() for name, numbers in all_.items()
    ]
    numbers = [number for *_, one in rows for number in one]
    return {
        "speakers": [row[0] for row in rows],
        "speeds": [row[1] for row in rows],
        "ids": [row[2] for row in rows],
        "sizes": [len(row[3]) for row in rows],
        "numbers": torch.tensor(numbers, dtype=torch.int32),
    }


def _unflat(state: dict[str, Any]) -> _Known:
    known: _Known = {}
    parts = state["numbers"].split(state["sizes"])
    rows = zip(state["speakers"], state["speeds"], state["ids"], parts, strict=True)
    for speaker, speed, name, numbers in rows:
        known.setdefault((speaker, speed), {})[name] = array("i", numbers.tolist())
    return known

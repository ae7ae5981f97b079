"""Groups the cuts of a large corpus into batches, an epoch at a time, from their lengths alone.

lhotse's sampler looks at each cut of a bucket for each batch: at 100,000 cuts that takes longer than
reading their audio. Here an epoch is one sorting.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from lhotse import MonoCut
from torch.utils.data import Sampler

from speechmm.data.cut_table import CutTable

LENGTH_NOISE = 0.05
"""Cuts are sorted by their length, longer or shorter by up to this share, drawn anew every epoch."""


class LargeSampler(Sampler[list[MonoCut]]):
    """Batches of cuts of like duration, each cut once an epoch; as many for every process."""

    def __init__(
        self,
        cuts: CutTable,
        batch_seconds: float,
        *,
        shuffle: bool,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
    ):
        """Begins with epoch 0.

        Args:
            cuts: The split.
            batch_seconds: Audio per batch in seconds, padding included; a longer cut comes alone.
            shuffle: New batches in a new order every epoch; else always the same.
            seed: With the epoch it decides the order.
            world_size: Processes that share the epoch.
            rank: Which of them this is.
        """
        self.cuts = cuts
        self.batch_seconds = batch_seconds
        self.shuffle = shuffle
        self.seed = seed
        self.world_size = world_size
        self.rank = rank
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[MonoCut]]:
        for indices in self.plan(self._epoch)[self.rank]:
            yield [self._cut(index) for index in indices]

    def _cut(self, index: int) -> MonoCut:
        if index >= 0:
            return self.cuts[index]
        cut = self.cuts[-1 - index]
        copy: MonoCut = cut.with_id(f"{cut.id}_dup0")  # as lhotse calls it
        return copy

    def plan(self, epoch: int) -> list[list[list[int]]]:
        """The batches of an epoch by process, as places in the table; one given again is ``-1 - place``."""
        random = np.random.default_rng([self.seed, epoch]) if self.shuffle else None
        batches = self._batches(random)
        _make_divisible(batches, self.world_size)
        return [batches[rank :: self.world_size] for rank in range(self.world_size)]

    def _batches(self, random: np.random.Generator | None) -> list[list[int]]:
        """Neighbours in length share a batch."""
        seconds = self.cuts.durations
        lengths = seconds
        if random is not None:
            lengths = seconds * random.uniform(1 - LENGTH_NOISE, 1 + LENGTH_NOISE, len(seconds))
        order = np.argsort(-lengths, kind="stable")
        batches: list[list[int]] = []
        longest = 0.0
        for index, one in zip(order.tolist(), seconds[order].tolist(), strict=True):
            longest = max(longest, one)
            if batches and longest * (len(batches[-1]) + 1) <= self.batch_seconds:
                batches[-1].append(index)
            else:
                batches.append([index])
                longest = one
        if random is not None:
            batches = [batches[place] for place in random.permutation(len(batches))]
        return batches


def _make_divisible(batches: list[list[int]], world_size: int) -> None:
    """Halves batches until every process can have as many.

    A cut comes twice only where there are fewer of them than processes.
    """
    while len(batches) % world_size:
        place = max(range(len(batches)), key=lambda place: len(batches[place]))
        batch = batches[place]
        half = -(-len(batch) // 2)
        batches[place] = batch[:half]
        batches.append(batch[half:] or [-1 - index for index in batch])

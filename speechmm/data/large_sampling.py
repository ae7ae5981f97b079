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

WINDOW_ARCHIVES = 8
"""Archives of lhotse Shar that a process reads at a time, and whose cuts share batches."""
LENGTH_NOISE = 0.05
"""Cuts are sorted by their length, longer or shorter by up to this share, drawn anew every epoch."""


class LargeSampler(Sampler[list[MonoCut]]):
    """Batches of cuts of like duration, each cut once an epoch; as many for every process.

    Cuts in files are dealt out to all processes batch by batch. Cuts in archives of lhotse Shar stay
    together: each process takes whole archives, a few at a time, in an order drawn for the epoch. Only
    what the processes' shares differ by, at the end of an epoch, is handed from one to another.
    """

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
        if self.cuts.archives:
            shares = [
                [batch for window in windows for batch in self._batches(window, random)]
                for windows in self._deal(epoch)
            ]
        else:
            batches = self._batches(np.arange(len(self.cuts)), random)
            shares = [batches[rank :: self.world_size] for rank in range(self.world_size)]
        _make_even(shares)
        return shares

    def _deal(self, epoch: int) -> list[list[np.ndarray]]:
        """Cuts to be read together, a window after the other, for each process about as many seconds."""
        shards = self.cuts.shards
        seconds = np.bincount(shards, weights=self.cuts.durations)
        order = np.flatnonzero(seconds)
        if self.shuffle:  # draws of its own: a window of all archives is shuffled as files are
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(order)
        dealt: list[list[int]] = [[] for _ in range(self.world_size)]
        sums = np.zeros(self.world_size)
        for shard in order.tolist():
            rank = int(sums.argmin())
            dealt[rank].append(shard)
            sums[rank] += seconds[shard]
        members = np.split(np.argsort(shards, kind="stable"), np.cumsum(np.bincount(shards))[:-1])
        return [
            [
                np.sort(
                    np.concatenate([members[one] for one in own[first : first + WINDOW_ARCHIVES]])
                )
                for first in range(0, len(own), WINDOW_ARCHIVES)
            ]
            for own in dealt
        ]

    def _batches(self, places: np.ndarray, random: np.random.Generator | None) -> list[list[int]]:
        """Neighbours in length share a batch."""
        seconds = self.cuts.durations[places]
        lengths = seconds
        if random is not None:
            lengths = seconds * random.uniform(1 - LENGTH_NOISE, 1 + LENGTH_NOISE, len(seconds))
        order = np.argsort(-lengths, kind="stable")
        batches: list[list[int]] = []
        longest = 0.0
        for index, one in zip(places[order].tolist(), seconds[order].tolist(), strict=True):
            longest = max(longest, one)
            if batches and longest * (len(batches[-1]) + 1) <= self.batch_seconds:
                batches[-1].append(index)
            else:
                batches.append([index])
                longest = one
        if random is not None:
            batches = [batches[place] for place in random.permutation(len(batches))]
        return batches


def _make_even(shares: list[list[list[int]]]) -> None:
    """Gives every process as many batches: halves a few, and hands over some of the last ones.

    A cut comes twice only where there are fewer of them than processes.
    """
    batches = sum(map(len, shares))
    wanted = -(-batches // len(shares))
    for _ in range(wanted * len(shares) - batches):
        share = max(shares, key=lambda share: max(map(len, share), default=0))
        place = max(range(len(share)), key=lambda place: len(share[place]))
        batch = share[place]
        half = -(-len(batch) // 2)
        share[place] = batch[:half]
        share.append(batch[half:] or [-1 - index for index in batch])
    surplus = [batch for share in shares for batch in share[wanted:]]
    for share in shares:
        del share[wanted:]
        while len(share) < wanted:
            share.append(surplus.pop())

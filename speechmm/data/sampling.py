"""Groups cuts of like duration into batches, so that little is padding."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from lhotse import CutSet, MonoCut
from lhotse.dataset.sampling import DynamicBucketingSampler, SimpleCutSampler
from torch.utils.data import Sampler

from speechmm.data.cut_table import CutTable
from speechmm.data.large_sampling import LargeSampler

TARGET_PADDING = 0.1
"""Share of the frames that may be padding in the worst case, where `MAX_BUCKETS` allow it."""

MAX_BUCKETS = 30
QUANTILES = 200  # durations at which a bucket may end
SAMPLER_BUFFER = 20_000
"""Cuts that lhotse's sampler looks ahead, so that up to these are shuffled as a whole every epoch."""


class SamplerAround(Sampler[Any]):
    """Batches made of those of another sampler, whose order is decided by the epoch."""

    def __init__(self, sampler: Any):
        """Begins with epoch 0.

        Args:
            sampler: Has ``set_epoch``.
        """
        self.sampler = sampler
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the choices of an epoch."""
        self._epoch = epoch
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)


class SamplerOfProcess(SamplerAround):
    """One that adds to batches what depends on their place among those of all processes."""

    def __init__(self, sampler: Any, *, batches: int, world_size: int = 1, rank: int = 0):
        """Begins with epoch 0.

        Args:
            sampler: Gives plans or groups of cuts; has ``set_epoch``.
            batches: Of the other sampler in an epoch, about.
            world_size: Processes that train together.
            rank: Of the process.
        """
        super().__init__(sampler)
        self.batches = batches
        self.world_size = world_size
        self.rank = rank


def make_sampler(
    cuts: Iterable[MonoCut] | CutTable,
    batch_seconds: float,
    *,
    shuffle: bool,
    seed: int = 0,
    world_size: int = 1,
    rank: int = 0,
) -> DynamicBucketingSampler | SimpleCutSampler | LargeSampler:
    """Groups cuts of like duration into batches, each cut once an epoch.

    The batches of an epoch depend on the cuts, the seed and the epoch (``set_epoch``) only. With
    several processes, cuts are given twice only where the last batches have fewer cuts than there
    are processes.

    Args:
        cuts: the split; of a table, batches are planned without making its cuts.
        batch_seconds: audio per batch in seconds, padding included; a longer cut comes alone.
            A shuffled batch may exceed it by as much as its last cut is longer than the others.
        shuffle: new groups in a new order every epoch; else always the same ones, the longest
            cuts of each group first.
        seed: with the epoch it decides the order.
        world_size: processes that share the epoch.
        rank: which of them this is.
    """
    if isinstance(cuts, CutTable):
        return LargeSampler(
            cuts, batch_seconds, shuffle=shuffle, seed=seed, world_size=world_size, rank=rank
        )
    shared = {"world_size": world_size, "rank": rank, "drop_last": False, "seed": seed}
    ordered = sorted(cuts, key=lambda cut: (-cut.duration, cut.id))
    bins = duration_bins(cut.duration for cut in ordered)
    if shuffle:  # a corpus larger than the buffer must not come speaker by speaker
        random.Random(seed).shuffle(ordered)
    if not bins:
        return SimpleCutSampler(
            CutSet.from_cuts(ordered), max_duration=batch_seconds, shuffle=shuffle, **shared
        )
    full_buckets = 1 + int(batch_seconds * (len(bins) + 1) / np.mean(bins))
    return DynamicBucketingSampler(
        ordered,
        max_duration=batch_seconds,
        duration_bins=bins,
        shuffle=shuffle,
        buffer_size=max(SAMPLER_BUFFER, full_buckets),
        sync_buckets=True,  # without it lhotse 1.33 ends the epoch at the first empty bucket
        **shared,
    )


def objects_where_few(cuts: CutTable) -> CutSet | CutTable:
    """Objects for lhotse's sampler; of a large corpus, or one in archives, the table as it is."""
    return cuts if len(cuts) > SAMPLER_BUFFER or cuts.archives else CutSet.from_cuts(cuts)


def group_by_length(
    lengths: Sequence[int], most: int, source: random.Random | None
) -> list[list[int]]:
    """Indices of items of like length together, the shortest groups first.

    Args:
        lengths: Of every item.
        most: Sum of the lengths of a group, padding included; a longer item comes alone.
        source: Of the order of equally long items; None for the order given.
    """
    order = list(range(len(lengths)))
    if source is not None:
        source.shuffle(order)
    order.sort(key=lambda index: lengths[index])
    groups: list[list[int]] = [[]]
    for index in order:
        if groups[-1] and (len(groups[-1]) + 1) * lengths[index] > most:
            groups.append([])
        groups[-1].append(index)
    return groups


def duration_bins(durations: Iterable[float], target: float = TARGET_PADDING) -> list[float]:
    """The longest duration of every bucket but the last, for as few buckets as keep padding low.

    For each number of buckets the partition with the least padding is found by dynamic
    programming over quantiles. Padding is counted as if every cut were as long as the longest of
    its bucket, so no order of the cuts can give more.

    Args:
        durations: of all cuts, in seconds.
        target: largest share of padding, in [0, 1).
    """
    ordered = np.sort(np.fromiter(durations, dtype=float))
    if not len(ordered):
        return []
    # Groups of cuts between neighbouring quantiles: edges[i] is the longest duration of group i,
    # starts[i] and ends[i] are where it lies in `ordered`; all (groups,).
    edges = np.unique(np.quantile(ordered, np.linspace(0, 1, QUANTILES), method="higher"))
    ends = np.searchsorted(ordered, edges, side="right")
    starts = np.append(0, ends[:-1])
    # (groups, groups): seconds, padding included, of one bucket from group `row` to group `column`.
    padded = (ends[None, :] - starts[:, None]) * edges[None, :]
    padded[starts[:, None] >= ends[None, :]] = np.inf
    # (groups,): fewest seconds of all cuts up to the end of each group, in one bucket.
    least = padded[0]
    last_starts: list[np.ndarray] = []
    while 1 - ordered.sum() / least[-1] > target and len(last_starts) + 1 < MAX_BUCKETS:
        # With one bucket more: those before it end with group `row` - 1, it goes on to `column`.
        totals = np.append(np.inf, least[:-1])[:, None] + padded
        # Remembered for each end: the group with which the last bucket begins.
        last_starts.append(totals.argmin(axis=0))
        least = totals.min(axis=0)
    # Backwards from the last group: each bucket's first group, then the end of the one before.
    bins: list[float] = []
    group = len(edges) - 1
    for last_start in reversed(last_starts):
        group = int(last_start[group]) - 1
        bins.insert(0, float(edges[group]))
    return bins

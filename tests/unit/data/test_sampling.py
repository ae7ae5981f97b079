"""Batches of like durations: little padding, every cut once, the same for the same seed."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording

from speechmm.data.cut_rows import CutRow
from speechmm.data.cut_table import CutTable
from speechmm.data.large_sampling import LargeSampler
from speechmm.data.sampling import MAX_BUCKETS, duration_bins, make_sampler

AN4_LIKE = [
    min(7.5, max(0.4, random.Random(index).lognormvariate(0.85, 0.6))) for index in range(300)
]


def dummy_cuts(durations: Sequence[float]) -> list[MonoCut]:
    return [
        MonoCut(
            id=f"c{index}",
            start=0,
            duration=duration,
            channel=0,
            recording=Recording(f"r{index}", [], 16000, round(duration * 16000), duration, [0]),
        )
        for index, duration in enumerate(durations)
    ]


def batches_of(sampler: object, epoch: int = 0) -> list[list[str]]:
    sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [[cut.id for cut in batch] for batch in sampler]  # type: ignore[attr-defined]


def padding_of(batches: list[list[str]], durations: Sequence[float]) -> float:
    rows = [[durations[int(id[1:])] for id in batch] for batch in batches]
    return 1 - sum(map(sum, rows)) / sum(max(row) * len(row) for row in rows)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_seconds", [10.0, 30.0, 60.0, 1000.0])
def test_little_padding_and_every_cut_once(shuffle: bool, batch_seconds: float) -> None:
    sampler = make_sampler(dummy_cuts(AN4_LIKE), batch_seconds, shuffle=shuffle, seed=1)
    for epoch in range(3):
        batches = batches_of(sampler, epoch)
        assert Counter(itertools.chain(*batches)) == Counter(f"c{i}" for i in range(300))
        assert padding_of(batches, AN4_LIKE) <= 0.10
        for batch in batches:
            rows = [AN4_LIKE[int(id[1:])] for id in batch]
            limit = batch_seconds * (1.3 if shuffle else 1.0)
            assert len(rows) == 1 or max(rows) * len(rows) <= limit


@pytest.mark.parametrize("corpus", ["an4", "fsdd", "kerstin", "yesno"])
def test_little_padding_on_real_recordings(corpus: str, corpora: Path) -> None:
    files = [*(corpora / corpus).rglob("*.flac"), *(corpora / corpus).rglob("*.wav")]
    durations = [soundfile.info(str(path)).duration for path in sorted(files)]
    for shuffle in (True, False):
        batches = batches_of(make_sampler(dummy_cuts(durations), 60.0, shuffle=shuffle))
        assert sum(map(len, batches)) == len(durations)
        assert padding_of(batches, durations) <= 0.10


@pytest.mark.parametrize("durations", [AN4_LIKE, [1.0] * 40, [1.0, 9.0]])
def test_seed_and_epoch_decide(durations: list[float]) -> None:
    cuts = dummy_cuts(durations)
    first = make_sampler(cuts, 20.0, shuffle=True, seed=5)
    again = make_sampler(cuts[::-1], 20.0, shuffle=True, seed=5)
    assert batches_of(first, 0) == batches_of(again, 0)
    assert batches_of(first, 3) == batches_of(again, 3)
    assert batches_of(first, 0) == batches_of(again, 0)
    if len(durations) > 2:
        assert batches_of(first, 0) != batches_of(first, 1)
        other = make_sampler(cuts, 20.0, shuffle=True, seed=6)
        assert batches_of(first, 0) != batches_of(other, 0)


def test_without_shuffling_every_epoch_is_the_same() -> None:
    sampler = make_sampler(dummy_cuts(AN4_LIKE), 20.0, shuffle=False)
    assert batches_of(sampler, 0) == batches_of(sampler, 1)


@pytest.mark.parametrize("shuffle", [True, False])
def test_several_processes_share_an_epoch(shuffle: bool) -> None:
    cuts = dummy_cuts(AN4_LIKE)
    ranks = [
        batches_of(make_sampler(cuts, 20.0, shuffle=shuffle, seed=2, world_size=3, rank=rank))
        for rank in range(3)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    seen = Counter(id for batches in ranks for batch in batches for id in batch)
    assert {id for id in seen if id.startswith("c")} >= {f"c{i}" for i in range(300)}
    assert sum(seen.values()) <= 302  # at most one repeat for each process without a last batch


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.filterwarnings("ignore:We have exceeded the max_duration")
def test_a_cut_longer_than_a_batch_comes_alone(shuffle: bool) -> None:
    batches = batches_of(make_sampler(dummy_cuts([1.0, 50.0, 1.1]), 10.0, shuffle=shuffle))
    assert ["c1"] in batches
    assert sorted(itertools.chain(*batches)) == ["c0", "c1", "c2"]


def test_bins_are_few_and_bound_the_padding() -> None:
    for durations in (AN4_LIKE, [1.0] * 9, [3.0], list(np.linspace(0.1, 30, 5000))):
        bins = duration_bins(durations)
        assert len(bins) < MAX_BUCKETS
        assert bins == sorted(set(bins))
        longest = [*bins, max(durations)]
        padded = sum(min(top for top in longest if top >= value) for value in durations)
        assert 1 - sum(durations) / padded <= 0.10
    assert duration_bins([1.0] * 9) == duration_bins([]) == []


def test_bins_are_the_best_partition() -> None:
    """Against every partition of a few durations into as many buckets."""
    durations = [0.5, 0.7, 1.0, 1.1, 2.0, 2.5, 4.0, 4.2]

    def padded(bins: Sequence[float]) -> float:
        tops = [*bins, max(durations)]
        return sum(min(top for top in tops if top >= value) for value in durations)

    bins = duration_bins(durations, target=0.15)
    choices = itertools.combinations(durations[:-1], len(bins))
    assert padded(bins) == pytest.approx(min(padded(choice) for choice in choices))
    fewer = itertools.combinations(durations[:-1], len(bins) - 1)
    assert all(1 - sum(durations) / padded(choice) > 0.15 for choice in fewer)


def dummy_table(durations: Sequence[float]) -> CutTable:
    table = CutTable()
    for cut in dummy_cuts(durations):
        data = cut.to_dict()
        data["recording"]["sources"] = [{"type": "file", "channels": [0], "source": "a.wav"}]
        table.add(CutRow(json.dumps(data).encode(), data))
    return table


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_large_corpora_have_little_padding_and_every_cut_once(
    shuffle: bool, world_size: int
) -> None:
    samplers = [
        make_sampler(
            dummy_table(AN4_LIKE), 20.0, shuffle=shuffle, seed=1,
            world_size=world_size, rank=rank,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    orders = set()
    for epoch in range(2):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        shares = [
            [[int(id[1:]) for id in batch] for batch in batches_of(s, epoch)] for s in samplers
        ]
        assert shares == [
            [[int(s.cuts.id(i)[1:]) for i in batch] for batch in s.plan(epoch)[rank]]
            for rank, s in enumerate(samplers)
        ]
        assert len({len(share) for share in shares}) == 1
        batches = [batch for share in shares for batch in share]
        assert sorted(itertools.chain(*batches)) == list(range(300))
        assert padding_of([[f"c{i}" for i in batch] for batch in batches], AN4_LIKE) <= 0.10
        assert all(
            len(batch) == 1 or max(AN4_LIKE[i] for i in batch) * len(batch) <= 20.0
            for batch in batches
        )
        orders.add(str(shares))
    assert len(orders) == (2 if shuffle else 1)


def test_as_many_batches_for_every_process_where_cuts_are_few() -> None:
    sampler = make_sampler(dummy_table([1.0, 2.0, 3.0]), 60.0, shuffle=True, world_size=4)
    assert isinstance(sampler, LargeSampler)
    shares = sampler.plan(0)
    assert [len(share) for share in shares] == [1] * 4
    assert sorted(i for share in shares for batch in share for i in batch if i >= 0) == [0, 1, 2]
    sampler.rank = next(rank for rank, share in enumerate(shares) if share[0][0] < 0)
    assert [cut.id.endswith("_dup0") for cut in next(iter(sampler))] == [True]

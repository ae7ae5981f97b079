"""The walk from sources to results: order kept, failures whole, little audio held."""

import gc
import weakref
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechmm.data.skips import SkipReport
from speechmm.errors import AudioError
from speechmm.inference.engine.chunks import (
    LOOKAHEAD_BATCHES,
    Chunk,
    ChunkResult,
    EndOfSource,
    in_batches,
    read_chunks,
    regroup,
)
from speechmm.inference.engine.sources import Source

BATCH = 10


def chunk(samples: int, number: int, name: str) -> Chunk[str]:
    payload = f"{name}{number}"
    return Chunk(waveform=torch.ones(samples), start=float(number), seconds=0.0, payload=payload)


class Reader:
    """Cuts source "a" into the chunks its plan says: samples, 0 for a ready result, -1 for a fault."""

    def __init__(self, plans: dict[str, list[int]]) -> None:
        self.plans = plans
        self.batches: list[list[str]] = []

    def cut(self, source: Source) -> Iterator[Chunk[str] | ChunkResult[str]]:
        for number, samples in enumerate(self.plans[source.id]):
            if samples < 0:
                raise AudioError(f"{source.id}: damaged")
            if samples == 0:
                yield ChunkResult(start=float(number), value=f"ready {source.id}{number}")
            else:
                yield chunk(samples, number, source.id)

    def process(self, chunks: Sequence[Chunk[str]]) -> list[str]:
        self.batches.append([one.payload for one in chunks])
        return [f"read {one.payload}" for one in chunks]

    def run(self, skipped: SkipReport) -> Iterator[tuple[str, list[str]]]:
        sources = (Source(id=name) for name in self.plans)
        done = in_batches(read_chunks(sources, self.cut), self.process, batch_samples=BATCH)
        for source, results in regroup(done, skipped):
            assert [one.start for one in results] == sorted(one.start for one in results)
            yield source.id, [one.value for one in results]


PLANS = st.lists(st.lists(st.integers(-1, 30), max_size=5), max_size=12)


@given(PLANS)
def test_every_source_gets_its_own_results_in_order_or_one_skip(plans: list[list[int]]) -> None:
    named = {f"s{index:02d}-": plan for index, plan in enumerate(plans)}
    skipped = SkipReport()
    reader = Reader(named)
    found = dict(reader.run(skipped))
    assert list(found) == [name for name, plan in named.items() if -1 not in plan]
    for name, values in found.items():
        assert values == [
            f"{'read' if samples else 'ready'} {name}{number}"
            for number, samples in enumerate(named[name])
        ]
    bad = [name for name, plan in named.items() if -1 in plan]
    assert skipped.items == [(name, f"{name}: damaged") for name in bad]
    processed = [payload for batch in reader.batches for payload in batch]
    assert len(processed) == len(set(processed))


def test_chunks_of_a_source_that_failed_are_not_processed() -> None:
    reader = Reader({"good": [3], "bad": [4, 5, -1], "fine": [6]})
    skipped = SkipReport()
    assert [name for name, _ in reader.run(skipped)] == ["good", "fine"]
    assert sorted(payload for batch in reader.batches for payload in batch) == ["fine0", "good0"]


def test_results_of_a_source_that_fails_late_are_dropped() -> None:
    full = LOOKAHEAD_BATCHES * BATCH
    reader = Reader({"bad": [full, full, -1], "good": [1]})
    skipped = SkipReport()
    assert list(reader.run(skipped)) == [("good", ["read good0"])]
    assert skipped.items == [("bad", "bad: damaged")]
    assert reader.batches[:2] == [["bad0"], ["bad1"]]


def test_the_first_failure_is_raised_after_the_results_before_it() -> None:
    reader = Reader({"good": [3], "bad": [-1], "worse": [-1]})
    results = reader.run(SkipReport(strict=True))
    assert next(results) == ("good", ["read good0"])
    with pytest.raises(AudioError, match="bad: damaged"):
        next(results)


def test_a_fault_of_the_processing_is_no_fault_of_the_source_that_is_being_read() -> None:
    """A batch holds chunks of many sources: its failure is not pinned on the last one."""

    def refuse(chunks: Sequence[Chunk[str]]) -> list[str]:
        raise AudioError("the batch cannot be processed")

    reader = Reader({"a": [9], "b": [LOOKAHEAD_BATCHES * BATCH]})
    reader.process = refuse
    skipped = SkipReport()
    assert list(reader.run(skipped)) == []
    assert skipped.items == [(name, "the batch cannot be processed") for name in "ab"]


@pytest.mark.parametrize("error", [AudioError("bad"), RuntimeError("a bug"), UnicodeError("odd")])
def test_only_the_chunk_that_fails_is_lost(error: Exception) -> None:
    reader = Reader({"good": [2, 2], "bad": [3, 2], "fine": [1]})
    process = reader.process

    def choosy(chunks: Sequence[Chunk[str]]) -> list[str]:
        if any(one.payload == "bad0" for one in chunks):
            raise error
        return process(chunks)

    reader.process = choosy
    skipped = SkipReport()
    found = dict(reader.run(skipped))
    assert found == {"good": ["read good0", "read good1"], "fine": ["read fine0"]}
    ((name, reason),) = skipped.items
    assert name == "bad" and str(error) in reason
    if not isinstance(error, AudioError):
        assert type(error).__name__ in reason


def test_running_out_of_memory_is_no_fault_of_an_input() -> None:
    def exhausted(chunks: Sequence[Chunk[str]]) -> list[str]:
        raise MemoryError

    reader = Reader({"a": [9]})
    reader.process = exhausted
    with pytest.raises(MemoryError):
        list(reader.run(SkipReport()))


def test_what_came_out_is_handed_on_before_more_is_read() -> None:
    asked: list[str] = []

    def chunks() -> Iterator[Chunk[str] | EndOfSource]:
        for name in "abcdefgh":
            asked.append(name)
            yield chunk(4 * BATCH, 0, name)
            yield EndOfSource(Source(id=name))

    done = in_batches(chunks(), lambda some: [one.payload for one in some], batch_samples=BATCH)
    first = next(done)
    assert isinstance(first, ChunkResult) and first.value == "a0"
    assert asked == ["a", "b"]  # 8 batches' worth


def test_audio_is_let_go_batch_by_batch() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def chunks() -> Iterator[Chunk[str] | EndOfSource]:
        for name in range(40):
            one = chunk(2 * BATCH, 0, str(name))
            alive.append(weakref.ref(one.waveform))
            yield one
            del one
            yield EndOfSource(Source(id=str(name)))

    def process(some: Sequence[Chunk[str]]) -> list[str]:
        nonlocal most
        held = sum(reference() is not None for reference in alive)
        if most:  # within one lookahead each batch finds fewer waveforms than the one before
            assert held < most or held == LOOKAHEAD_BATCHES // 2
        most = held
        return [one.payload for one in some]

    assert len(list(in_batches(chunks(), process, batch_samples=BATCH))) == 80
    gc.collect()
    assert not any(reference() is not None for reference in alive)

"""Cuts sources into chunks, processes the chunks in batches, and groups the results by source.

Generators, each reading from the one before it::

    chunks = read_ahead(sources, cut, readers=4)                # chunk, chunk, end of source, ...
    done = in_batches(chunks, process, batch_samples=samples)   # result, result, end of source, ...
    for source, results in regroup(done, skipped): ...          # one result list per good source

Whatever goes wrong with one source is noted with its name, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from speechmm.data.skips import SkipReport, named_failure
from speechmm.errors import SpeechmmError
from speechmm.inference.engine.sources import Source

MAX_PADDING = 0.15
"""Largest share of a batch that is padding."""
LOOKAHEAD_BATCHES = 8
"""Batches' worth of audio that is read before it is sorted by length."""
GPU_LOOKAHEAD_BATCHES = 2
"""The same where a batch is large, as on a GPU: it is not to wait long for the first one."""

Part = TypeVar("Part")
Payload = TypeVar("Payload")
Value = TypeVar("Value")
Joined = TypeVar("Joined")


@dataclass(frozen=True, kw_only=True)
class Chunk(Generic[Payload]):
    """A part of one source, short enough for one pass of the model."""

    waveform: Float[Tensor, " samples"]
    start: float
    """Seconds from the start of the source."""
    seconds: float
    """Length."""
    payload: Payload
    """What there is to know about it besides its audio."""


@dataclass(frozen=True, kw_only=True)
class ChunkResult(Generic[Value]):
    """What the model made of one chunk."""

    start: float
    """Seconds from the start of the source."""
    value: Value


@dataclass(frozen=True)
class ChunkFailure:
    """Why the model could make nothing of one chunk."""

    error: Exception


@dataclass(frozen=True)
class EndOfSource:
    """Follows the last chunk of every source."""

    source: Source
    error: SpeechmmError | None = None
    """Why the source could not be read to its end; its chunks count for nothing then."""


def read_chunks(
    sources: Iterable[Source], cut: Callable[[Source], Iterator[Part]]
) -> Iterator[Part | EndOfSource]:
    """The chunks of all sources, one source after the other, with a mark at the end of each.

    Args:
        sources: What to read.
        cut: Reads one source and cuts it into chunks; what needs no pass of the model may already be
            a result.
    """
    for source in sources:
        try:
            yield from cut(source)
        except Exception as error:
            yield EndOfSource(source, named_failure(source.name, error))
        else:
            yield EndOfSource(source)


def in_batches(
    chunks: Iterable[Chunk[Payload] | ChunkResult[Value] | EndOfSource],
    process: Callable[[Sequence[Chunk[Payload]]], Sequence[Value]],
    *,
    batch_samples: int,
    ahead: int = LOOKAHEAD_BATCHES,
) -> Iterator[ChunkResult[Value] | ChunkFailure | EndOfSource]:
    """The same stream with a result in place of each chunk; a few batches of audio are in memory.

    Where a batch fails, each half of it is tried, so that only bad chunks fail, or those too large for
    the memory of a device.

    Args:
        chunks: Chunks, results and ends of sources, in their order.
        process: Makes one value of each chunk of a batch.
        batch_samples: Samples of a batch, padding included.
        ahead: Batches' worth of audio that is read before it is sorted by length.
    """
    held: list[Chunk[Payload] | ChunkResult[Value] | EndOfSource] = []
    samples = 0
    for item in chunks:
        held.append(item)
        if isinstance(item, Chunk):
            samples += len(item.waveform)
        elif isinstance(item, EndOfSource) and item.error is not None:
            held = _without_last_source(held)
            samples = sum(len(one.waveform) for one in held if isinstance(one, Chunk))
        if samples == 0 or samples >= ahead * batch_samples:
            yield from _processed(held, process, batch_samples)
            samples = 0
    yield from _processed(held, process, batch_samples)


def regroup(
    done: Iterable[ChunkResult[Value] | ChunkFailure | EndOfSource], skipped: SkipReport
) -> Iterator[tuple[Source, list[ChunkResult[Value]]]]:
    """Each source with the results of its chunks, in the order of the sources.

    Args:
        done: Results, failures, and ends of sources.
        skipped: Where a source that failed is noted; nothing is yielded for it.
    """
    results: list[ChunkResult[Value]] = []
    failure: Exception | None = None
    for item in done:
        if isinstance(item, ChunkResult):
            results.append(item)
            continue
        if isinstance(item, ChunkFailure):
            failure = failure or item.error
            continue
        failure = item.error or failure
        if failure is None:
            yield item.source, results
        else:
            skipped.add(item.source.name, named_failure(item.source.name, failure))
        results, failure = [], None


def join(
    regrouped: Iterable[tuple[Source, list[ChunkResult[Value]]]],
    joined: Callable[[Source, list[ChunkResult[Value]]], Joined],
    skipped: SkipReport,
) -> Iterator[Joined]:
    """What ``joined`` makes of each source and its results; a source it fails for is noted."""
    for source, results in regrouped:
        try:
            whole = joined(source, results)
        except Exception as error:
            skipped.add(source.name, named_failure(source.name, error))
            continue
        yield whole


def plan_batches(lengths: Sequence[int], batch_samples: int) -> list[list[int]]:
    """Indices of like lengths together: longest first, little padding, bounded size.

    Args:
        lengths: Samples of each item.
        batch_samples: Samples of a batch, padding included; a longer item gets its own batch.
    """
    batches: list[list[int]] = []
    longest = total = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = (len(batches[-1]) + 1) * longest if batches else 0
        fits = size <= batch_samples and total + lengths[index] >= (1 - MAX_PADDING) * size
        if not batches or not fits:
            batches.append([])
            longest, total = lengths[index], 0
        batches[-1].append(index)
        total += lengths[index]
    return batches


def _without_last_source(
    held: list[Chunk[Payload] | ChunkResult[Value] | EndOfSource],
) -> list[Chunk[Payload] | ChunkResult[Value] | EndOfSource]:
    """The items without what the last source, whose end they finish with, has of its own."""
    first = len(held) - 1
    while first > 0 and not isinstance(held[first - 1], EndOfSource):
        first -= 1
    return [*held[:first], held[-1]]


def _processed(
    held: list[Chunk[Payload] | ChunkResult[Value] | EndOfSource],
    process: Callable[[Sequence[Chunk[Payload]]], Sequence[Value]],
    batch_samples: int,
) -> Iterator[ChunkResult[Value] | ChunkFailure | EndOfSource]:
    """All items in their order, a result in place of each chunk; empties the list it is given."""
    waiting = {place: item for place, item in enumerate(held) if isinstance(item, Chunk)}
    done: dict[int, ChunkResult[Value] | ChunkFailure | EndOfSource] = {
        place: item for place, item in enumerate(held) if not isinstance(item, Chunk)
    }
    held.clear()  # so that the audio of a batch is let go as soon as the batch is done
    places = list(waiting)
    lengths = [len(chunk.waveform) for chunk in waiting.values()]
    for batch in plan_batches(lengths, batch_samples):
        chunks = [waiting.pop(places[index]) for index in batch]
        for index, result in zip(batch, _results(chunks, process), strict=True):
            done[places[index]] = result
    for place in sorted(done):
        yield done[place]


def _results(
    chunks: Sequence[Chunk[Payload]], process: Callable[[Sequence[Chunk[Payload]]], Sequence[Value]]
) -> list[ChunkResult[Value] | ChunkFailure]:
    """What the batch gives, or each half of it where it fails as a whole."""
    try:
        values = process(chunks)
    except MemoryError:
        raise
    except Exception as error:
        if len(chunks) == 1:
            return [ChunkFailure(error)]
        half = len(chunks) // 2
        return [*_results(chunks[:half], process), *_results(chunks[half:], process)]
    return [
        ChunkResult(start=chunk.start, value=value)
        for chunk, value in zip(chunks, values, strict=True)
    ]

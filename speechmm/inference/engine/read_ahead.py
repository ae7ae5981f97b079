"""Reads sources in threads, ahead of who works on them, in order and in bounded memory."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from speechmm.data.skips import named_failure
from speechmm.inference.engine.chunks import EndOfSource, read_chunks
from speechmm.inference.engine.sources import Source

PARTS_AHEAD = 2
"""Parts of one source that are read before anybody asks for them."""
SOURCES_AHEAD = 16
"""Sources a thread may have begun: short ones are read while a device works on a large batch."""
MOST_READERS = 8
_PATIENCE = 0.2  # seconds after which a thread looks whether anybody still wants what it reads

Part = TypeVar("Part")


@dataclass(frozen=True)
class Later:
    """Parts that are to be made by who works on them, not by the thread that reads."""

    parts: Callable[[], Iterator[Any]]


def readers_for(device: torch.device) -> int:
    """Threads that pay for a device: none on a CPU of one or two threads, which works itself then."""
    cores = os.cpu_count() or 1
    if device.type != "cpu":
        return min(MOST_READERS, cores)
    return min(MOST_READERS, torch.get_num_threads() // 3)


def read_ahead(
    sources: Iterable[Source], cut: Callable[[Source], Iterator[Part | Later]], *, readers: int
) -> Iterator[Part | EndOfSource]:
    """The chunks of all sources as :func:`read_chunks` gives them, read by so many threads.

    Args:
        sources: What to read.
        cut: Reads one source and cuts it into chunks; runs in a thread. What it wants done here comes
            as :class:`Later`.
        readers: Threads; 0 reads here, when asked.
    """
    if readers == 0:
        yield from _with_later(read_chunks(sources, cut))
        return
    jobs: queue.SimpleQueue[_Reading[Part] | None] = queue.SimpleQueue()
    stop = threading.Event()
    for _ in range(readers):
        threading.Thread(target=_work, args=(jobs, cut, stop), daemon=True).start()
    remaining = iter(sources)
    begun: deque[_Reading[Part]] = deque()
    try:
        while True:
            while len(begun) < SOURCES_AHEAD * readers:
                source = next(remaining, None)
                if source is None:
                    break
                begun.append(_Reading(source))
                jobs.put(begun[-1])
            if not begun:
                return
            yield from _with_later(begun[0].items())
            begun.popleft()
    finally:
        stop.set()
        for _ in range(readers):
            jobs.put(None)


@dataclass
class _Reading(Generic[Part]):
    """One source that a thread reads or is to read."""

    source: Source
    parts: queue.Queue[Part | Later | EndOfSource | BaseException] = field(
        default_factory=lambda: queue.Queue(PARTS_AHEAD)
    )

    def items(self) -> Iterator[Part | Later | EndOfSource]:
        """Its parts and its end, as they come; raises what ended its thread."""
        while True:
            item = self.parts.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item, EndOfSource):
                return

    def put(self, item: Part | Later | EndOfSource | BaseException, stop: threading.Event) -> None:
        """Waits for room; gives up when nobody asks any more."""
        while not stop.is_set():
            try:
                self.parts.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return


def _work(
    jobs: queue.SimpleQueue[_Reading[Part] | None],
    cut: Callable[[Source], Iterator[Part | Later]],
    stop: threading.Event,
) -> None:
    """Reads one source after the other, until there is none or nobody asks any more."""
    while (reading := jobs.get()) is not None and not stop.is_set():
        try:
            for item in read_chunks([reading.source], cut):
                reading.put(item, stop)
                if stop.is_set():
                    return
        except BaseException as error:  # what ends the program is raised where that is heeded
            reading.put(error, stop)


def _with_later(items: Iterable[Part | Later | EndOfSource]) -> Iterator[Part | EndOfSource]:
    """The same items, what is to be done here done; where that fails, its source ends with the error."""
    failure: Exception | None = None
    for item in items:
        if isinstance(item, Later):
            try:
                yield from item.parts()
            except Exception as error:
                failure = error
        elif isinstance(item, EndOfSource) and failure is not None:
            yield EndOfSource(item.source, named_failure(item.source.name, failure))
            failure = None
        else:
            yield item

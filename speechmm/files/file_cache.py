"""Keeps what was found out about files, in bounded memory, as long as the files stay what they are."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

Found = TypeVar("Found")
State = tuple[int, ...]
"""What is another when a file is another."""


def file_state(status: os.stat_result) -> State:
    """Inode, bytes and time of modification (ns) of a file."""
    return status.st_ino, status.st_size, status.st_mtime_ns


class FileCache(Generic[Found]):
    """What was found out about each file, to be asked for from any thread.

    Where there is no room for more, what was not asked for longest is let go of.
    """

    def __init__(self, most: int, size: Callable[[Found], int] = lambda found: 1) -> None:
        """An empty cache.

        Args:
            most: Sum of the sizes of what is kept.
            size: Of one finding; without it each counts 1.
        """
        self._most, self._size, self._sum = most, size, 0
        self._kept: OrderedDict[Hashable, Found] = OrderedDict()
        self._renew_lock()
        if hasattr(os, "register_at_fork"):  # a thread that does not live on may hold it
            os.register_at_fork(after_in_child=self._renew_lock)

    def get(self, path: Path, state: State, find: Callable[[], Found], *asked: Hashable) -> Found:
        """What is kept of a file, or is found now; of what `find` raises nothing is kept.

        Args:
            path: The file.
            state: Its state, see `file_state`.
            find: Finds it out; threads that ask at the same time may each do so.
            asked: What else decides about the finding.
        """
        key = (str(path), state, *asked)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = find()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = found
                self._sum += self._size(found)
            while self._sum > self._most:
                self._sum -= self._size(self._kept.popitem(last=False)[1])
        return found

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

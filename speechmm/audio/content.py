"""Reads the bytes of a file or a pipe at any place, and lends ranges of them as files."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
from functools import cached_property

from speechmm.files.file_cache import State, file_state

_BLOCK = 1 << 18


class Content:
    """The bytes of a file that is open, or of what came through a pipe."""

    def __init__(self, source: int | bytes) -> None:
        self._source = source
        self._block_at, self._block = 0, b""
        self.size = len(source) if isinstance(source, bytes) else os.fstat(source).st_size
        """Bytes."""

    @cached_property
    def state(self) -> State:
        """What is another when the content is another."""
        if isinstance(self._source, bytes):
            return self.size, zlib.crc32(self._source)
        return file_state(os.fstat(self._source))

    def read(self, at: int, count: int) -> bytes:
        """The bytes from ``at`` on, fewer at the end of the file."""
        if isinstance(self._source, bytes):
            return self._source[at : at + count]
        if count > _BLOCK:
            return os.pread(self._source, count, at)
        offset = at - self._block_at
        if not 0 <= offset <= len(self._block) - count:
            self._block_at, self._block = at, os.pread(self._source, _BLOCK, at)
            offset = 0
        return self._block[offset : offset + count]

    def find(self, pattern: bytes, start: int) -> int:
        """Where a pattern is met first, from ``start`` on; -1 where it is not."""
        at = start
        while at < self.size:
            block = self.read(at, _BLOCK)
            found = block.find(pattern)
            if found >= 0:
                return at + found
            if len(block) < len(pattern):
                break
            at += len(block) - len(pattern) + 1
        return -1


@dataclass(frozen=True)
class Part:
    """A range of a file that a decoder reads as a file of its own."""

    start: int
    """Its first byte."""
    stop: int
    """The byte after its last."""
    prefix: bytes = b""
    """What stands before these bytes: a header that was mended."""


class PartFile(io.RawIOBase):
    """A part as a file to be read."""

    def __init__(self, content: Content, part: Part) -> None:
        super().__init__()
        self._content, self._part, self._at = content, part, 0
        self._size = len(part.prefix) + part.stop - part.start

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:  # noqa: D102
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:  # noqa: D102
        left = max(0, self._size - self._at)
        size = left if size < 0 else min(size, left)
        prefix = self._part.prefix[self._at : self._at + size]
        place = self._part.start + self._at + len(prefix) - len(self._part.prefix)
        rest = size - len(prefix)
        data = prefix + (self._content.read(place, rest) if rest else b"")
        self._at += len(data)
        return data

    def readinto(self, buffer: object) -> int:  # noqa: D102
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

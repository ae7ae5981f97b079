"""Reads text that people typed: UTF-8 or UTF-16, any line ends, gzipped or not.

A byte order mark is never part of the text; it alone says that a file is UTF-16.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from speechmm.errors import ManifestError, SpeechmmError
from speechmm.files.pipes import is_pipe, read_pipe

_GZIP = b"\x1f\x8b"
_MOST_RATIO = 100
_MOST_UNPACKED = 2_000_000
_CHECKED_EVERY = 1 << 16
_MOST_FROM_PIPE = 256_000_000
_LONGEST_LINE = 64_000_000
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Skip = Callable[[str, str], None]
"""Takes what is left out ("texts.txt:3") and why; `SkipReport.add` is one."""


def read_text(path: Path, *, error: type[SpeechmmError] = ManifestError) -> str:
    """The whole text of a file, with Unix line ends.

    Args:
        path: The file.
        error: What is raised when it cannot be read.

    Raises:
        SpeechmmError: The file cannot be read, or is in another encoding (names line and byte).
    """
    data = _read_bytes(path, error)
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as cause:
        where, reason = _wrong_byte(data, cause)
        raise error(f"{path}:{where}: {reason}. {_ADVICE}") from cause
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(
    path: Path, *, skip: Skip | None = None, error: type[SpeechmmError] = ManifestError
) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1.

    Args:
        path: The file.
        skip: Told of each line in another encoding, which is then left out; without it the first
            such line is an error.
        error: What is raised when the file cannot be read.

    Raises:
        SpeechmmError: As `read_text`.
    """
    if skip is None:
        numbered: Iterator[tuple[int, str]] = enumerate(read_text(path, error=error).split("\n"), 1)
    else:
        numbered = _good_lines(path, skip, error)
    return [(number, line) for number, line in numbered if line.strip()]


def all_lines(path: Path, *, error: type[SpeechmmError] = ManifestError) -> list[str]:
    """All lines without their ends, blank ones too.

    Args:
        path: The file.
        error: What is raised when it cannot be read.

    Raises:
        SpeechmmError: As `read_text`.
    """
    lines = read_text(path, error=error).split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


class _Bounded(gzip.GzipFile):
    """Refuses to unpack what can only be meant to fill the memory."""

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(fileobj=file, mode="rb")
        self._file = file
        self._unchecked = 0

    def close(self) -> None:
        super().close()
        self._file.close()

    def _bounded(self, data: bytes) -> bytes:
        self._unchecked += len(data)
        if self._unchecked < _CHECKED_EVERY:  # a look at each of a million lines takes seconds
            return data
        self._unchecked = 0
        if self.tell() > max(_MOST_UNPACKED, _MOST_RATIO * self._file.tell()):
            raise OSError(f"it unpacks to more than {_MOST_RATIO} times its size, which is no text")
        return data

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        return self._bounded(super().read(size))

    def readline(self, size: int | None = -1) -> bytes:
        limit = _LONGEST_LINE if size is None or size < 0 else size
        line = super().readline(limit)
        if len(line) >= _LONGEST_LINE:
            raise OSError(f"a line of more than {_LONGEST_LINE / 1e6:.0f} MB")
        return self._bounded(line)

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line


def open_lines(path: Path) -> io.BufferedIOBase:
    """The content of a file, to be read whole or line by line; unpacked where it is gzipped.

    What unpacks to 100 times its size and more than 2 MB is an `OSError`, as is a packed line of
    64 MB. A pipe, a device and "-" (standard input) are read to their end at once, which is to come
    within 256 MB, and may be read again.

    Raises:
        OSError: It cannot be read, or has no end.
    """
    piped = is_pipe(path)
    file: io.BufferedIOBase = (
        io.BytesIO(read_pipe(path, _MOST_FROM_PIPE)) if piped else path.open("rb")
    )
    try:
        packed = file.read(len(_GZIP)) == _GZIP or path.suffix == ".gz"
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return _Bounded(file) if packed else file


def peek_lines(path: Path) -> list[str]:
    """The lines that are not blank, for a look at what a file is; none where it cannot be read.

    Bytes in another encoding are replaced.
    """
    try:
        data = _read_bytes(path, ManifestError)
    except ManifestError:
        return []
    text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig", "replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()]


_ADVICE = 'Convert it, for example with "iconv -f WINDOWS-1252 -t UTF-8".'


def _read_bytes(path: Path, error: type[SpeechmmError]) -> bytes:
    try:
        with open_lines(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as cause:  # gzip reports damage with all three
        reason = getattr(cause, "strerror", None) or cause
        raise error(
            f"{path}: cannot be read ({reason}); expected a text file. Check the path."
        ) from cause


def _good_lines(path: Path, skip: Skip, error: type[SpeechmmError]) -> Iterator[tuple[int, str]]:
    """The lines in UTF-8; a file in UTF-16 is whole or not at all."""
    data = _read_bytes(path, error)
    if data.startswith(_UTF16):
        yield from enumerate(read_text(path, error=error).split("\n"), 1)
        return
    data = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as cause:
            byte, column = line[cause.start], cause.start + 1
            skip(
                f"{path}:{number}",
                f"byte 0x{byte:02x} at position {column} is not UTF-8; expected UTF-8 text",
            )


def _wrong_byte(data: bytes, cause: UnicodeDecodeError) -> tuple[int, str]:
    """The line of the byte that stopped the decoder, and what is wrong there."""
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    offset = min(cause.start + len(mark), len(data) - 1)  # the decoder counts from behind the mark
    if data.startswith(_UTF16):
        line = data[:offset].decode("utf-16", "ignore").count("\n") + 1
        place, name = f"at offset {offset} in the file", "UTF-16"
    else:
        line = data.count(b"\n", 0, offset) + 1
        column = offset - data.rfind(b"\n", 0, offset)
        place, name = f"at position {column} of the line (offset {offset} in the file)", "UTF-8"
    return line, f"byte 0x{data[offset]:02x} {place} is not {name}; expected {name} text"

"""Makes standard streams bear what terminals, pipes, cron jobs and containers do to them."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_TERMINATED = 143  # 128 + SIGTERM, as shells report it
_ESCAPES = "speechmm-escapes"


@contextmanager
def standard_streams() -> Iterator[None]:
    """Within it, texts that a stream's encoding lacks are escaped, and stderr may be closed or full.

    Names of files that are not UTF-8 are printed as their bytes. What is printed to a closed
    standard output is an `OSError`; without output, it does not matter.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    codecs.register_error(_ESCAPES, _escape)
    changed = [(stream, stream.errors) for stream in before if hasattr(stream, "reconfigure")]
    for stream, _ in changed:
        stream.reconfigure(errors=_ESCAPES)
    sys.stdout = before[0] or _Closed()
    sys.stderr = _Forgiving(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream, errors in changed:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)


@contextmanager
def terminated_as_exit() -> Iterator[None]:
    """Within it, SIGTERM raises `SystemExit` with 143, so that unfinished files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Closed:
    """In place of a standard output that was closed before the program began."""

    encoding, errors = "utf-8", "strict"

    def write(self, text: str) -> int:
        if text:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
        return 0

    def flush(self) -> None:
        """Has nothing to do."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")


class _Forgiving:
    """Standard error whose being closed, full or broken ends nothing."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        try:
            return self._stream is not None and bool(self._stream.isatty())
        except (OSError, ValueError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _open_closed_descriptors() -> None:
    """Keeps files that are opened later from becoming standard input, output or error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of file names as they are, other letters by their code point."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    if "\udc80" <= letter <= "\udcff":
        return bytes([ord(letter) - 0xDC00]), error.start + 1
    if ord(letter) < 0x100:
        return f"\\x{ord(letter):02x}", error.start + 1
    width = 4 if ord(letter) < 0x10000 else 8
    return f"\\{'u' if width == 4 else 'U'}{ord(letter):0{width}x}", error.start + 1

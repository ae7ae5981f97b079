"""Reads what is no regular file: pipes, ``/dev/stdin``, ``<(command)``, and "-" for standard input.

A pipe gives its bytes once; they are kept until the command is done, so that it may look at them as
often as at a file.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import threading
from pathlib import Path

LARGEST_PIPE = 1 << 31
"""Bytes; what is longer belongs in a file."""
LARGEST_DEVICE = 256_000_000
"""Bytes of a device: some have no end."""
STDIN = "-"
"""As the path of an input: standard input."""
_BLOCK = 1 << 20
_DESCRIPTOR = re.compile(r"/proc/(?:self|thread-self|[0-9]+)(?:/task/[0-9]+)?/fd/?")
_kept: dict[str, bytes] = {}
_reading = threading.Lock()


def is_pipe(path: Path) -> bool:
    """Whether a path stands for what can be read once only: a pipe, a device, or "-"."""
    if str(path) == STDIN:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_readable(path: Path) -> bool:
    """Whether a path stands for a file or a pipe; a text that can be no path does not."""
    try:
        return path.is_file() or is_pipe(path)
    except (OSError, ValueError):  # longer than any path may be
        return False


def is_lasting(path: Path) -> bool:
    """Whether a path leads to the same bytes in later commands, too: no pipe, no open descriptor."""
    return not is_pipe(path) and descriptor(path) is None


def read_pipe(path: Path, most: int = LARGEST_PIPE) -> bytes:
    """All bytes that come through a pipe, the same ones at every call, in every thread.

    Args:
        path: What `is_pipe` says yes to.
        most: Bytes; more of them are an error, as are more than ``LARGEST_DEVICE`` of a device.

    Raises:
        OSError: It cannot be read, or gives more.
    """
    name = "/dev/stdin" if str(path) == STDIN else str(path)
    with _reading:
        if name not in _kept:
            _kept[name] = _read(Path(name), most)
        return _kept[name]


def starts_like_rows(path: Path) -> bool:
    """Whether rows of JSON come through a pipe, gzipped or not: no recording begins like that."""
    return read_pipe(path)[:64].lstrip().startswith((b"{", b"\x1f\x8b", b"\xef\xbb\xbf{"))


def forget_pipes(*paths: Path) -> None:
    """Lets go of what came through these pipes, or through all: the next to read gets what comes then."""
    with _reading:
        for name in map(str, paths) if paths else [*_kept]:
            _kept.pop(name, None)


def descriptor(path: Path) -> int | None:
    """The number in /dev/stdout, /dev/fd/1 or /proc/self/fd/1; None for other paths."""
    for _ in range(10):  # links to links
        folder = os.path.realpath(path.parent)
        if path.name.isdigit() and _DESCRIPTOR.fullmatch(folder):
            return int(path.name)
        try:
            path = path.parent / path.readlink()
        except (OSError, ValueError):  # no link
            return None
    return None


def _read(path: Path, most: int) -> bytes:
    number = descriptor(path)  # after `sudo` its name may not be opened again; a socket never
    opened = os.open(path, os.O_RDONLY) if number is None else os.dup(number)
    with os.fdopen(opened, "rb", buffering=0) as file:
        mode = os.fstat(opened).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            most = min(most, LARGEST_DEVICE)
        data = io.BytesIO()
        while block := file.read(_BLOCK):
            data.write(block)
            if data.tell() > most:
                said = f"it is no file, and has no end within {most / 1e6:.0f} MB"
                raise OSError(errno.EFBIG, said)
    return data.getvalue()

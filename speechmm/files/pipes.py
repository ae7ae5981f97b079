"""Reads what is no regular file: pipes, ``/dev/stdin``, ``<(command)``, and "-" for stdin.

A pipe gives its bytes once; they are kept, so that a command may look at them as often as at a file.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

LARGEST_PIPE = 1 << 31
"""Bytes; what is longer belongs in a file."""
_STDIN = "-"


def is_pipe(path: Path) -> bool:
    """Whether a path stands for what can be read once only; "-" does, unless a file is so called."""
    if str(path) == _STDIN:
        return not path.exists()
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def read_pipe(path: Path) -> bytes:
    """All bytes that come through a pipe, the same ones at every call.

    Raises:
        OSError: It cannot be read, or gives more than ``LARGEST_PIPE`` bytes.
    """
    return _read_once("/dev/stdin" if str(path) == _STDIN else str(path))


@cache
def _read_once(name: str) -> bytes:
    # /dev/stdin is opened by its number: after `sudo` its name may not be opened again.
    descriptor = os.dup(0) if name == "/dev/stdin" else os.open(name, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(LARGEST_PIPE + 1)
    if len(data) > LARGEST_PIPE:
        raise OSError(f"more than {LARGEST_PIPE >> 30} GiB came through the pipe; use a file")
    return data

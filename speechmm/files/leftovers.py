"""Names files that are still being written, and removes those that ended programs left."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import uuid
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\.(?:tmp|old)-([0-9a-f]{8})-([0-9a-f]+)-[0-9a-f]{12}")
_cleaned: set[tuple[int, str]] = set()


def unfinished_name(kind: str = "tmp", suffixes: str = "") -> str:
    """A hidden name that says which process writes the file: ``.tmp-MACHINE-PROCESS-RANDOM.txt``.

    Args:
        kind: "tmp" for what is being written, "old" for what is about to be replaced.
        suffixes: End of the name.
    """
    return f".{kind}-{_machine()}-{os.getpid():x}-{uuid.uuid4().hex[:12]}{suffixes}"


def remove_leftovers(folder: Path) -> None:
    """Removes what programs of this machine were writing in a folder when they were killed.

    Looks once a folder and process. What a process of another machine or container, or one that
    still runs, is writing stays. Nothing here is an error.
    """
    key = (os.getpid(), str(folder.absolute()))
    if key in _cleaned:
        return
    _cleaned.add(key)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _NAME.match(entry.name)
            if found and found[1] == _machine() and not _runs(int(found[2], 16)):
                remove(Path(entry.path))


def remove(path: Path) -> None:
    """Removes a file, a link (not what it leads to) or a whole folder; nothing here is an error."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Eight digits for where process numbers mean the same: a machine since its start, a container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True

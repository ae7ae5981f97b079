"""The files of a corpus folder: a sorted walk, and a fingerprint that tells of changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from speechmm.errors import ManifestError


def list_files(root: Path, *, leave_out: Path | None = None) -> list[Path]:
    """All files below ``root``, sorted; hidden ones are left out, links to folders are followed.

    Raises:
        ManifestError: ``root`` is not a folder.
    """
    if not root.is_dir():
        raise ManifestError(f"{root}: not a folder; expected the folder of a corpus.")
    unwanted = leave_out.resolve() if leave_out is not None else None
    seen: set[Path] = set()
    files: list[Path] = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        here = Path(folder)
        real = here.resolve()
        if real in seen or real == unwanted:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if _is_visible(name))
        files += [here / name for name in names if _is_visible(name)]
    return sorted(files)


def fingerprint(files: Iterable[Path]) -> str:
    """A digest of names, sizes and modification times; a missing file counts as such."""
    digest = hashlib.sha256()
    for path in files:
        try:
            status = path.stat()
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"

"""Lists the files of a folder: every file once, links to folders followed."""

from __future__ import annotations

import os
from pathlib import Path

from speechmm.errors import ManifestError, SpeechmmError


def list_files(
    root: Path, *, leave_out: Path | None = None, error: type[SpeechmmError] = ManifestError
) -> list[Path]:
    """All files below ``root``, sorted; hidden ones are left out, links to folders are followed.

    A folder that can be reached in several ways is listed once, by its own path where that lies
    below ``root``; so a link to a folder above it ends the walk.

    Args:
        root: The folder.
        leave_out: A folder whose files are not wanted.
        error: What is raised when there is no such folder, or one below it cannot be listed.
    """
    if not root.is_dir():
        raise error(f"{root}: there is no such folder; expected one with files. Check the path.")

    def refuse(cause: OSError) -> None:
        raise error(
            f"{cause.filename}: cannot be listed ({cause.strerror}); expected a folder that may be read. "
            "Change its permissions, or move it elsewhere."
        ) from cause

    seen = set() if leave_out is None else {leave_out.resolve()}
    files: list[Path] = []
    waiting = [root]  # links wait until every real folder has been seen
    while waiting:
        for folder, subfolders, names in os.walk(waiting.pop(0), onerror=refuse):
            here = Path(folder)
            if here.resolve() in seen:
                subfolders.clear()
                continue
            seen.add(here.resolve())
            visible = sorted(filter(_is_visible, subfolders))
            links = [name for name in visible if (here / name).is_symlink()]
            waiting += [here / name for name in links]
            subfolders[:] = [name for name in visible if name not in links]
            files += [here / name for name in names if _is_visible(name)]
    return sorted(files)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name not in ("__MACOSX", "lost+found")

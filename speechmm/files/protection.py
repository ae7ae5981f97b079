"""Protects what a command reads from being overwritten by what it writes."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from speechmm.errors import ConfigError

_PARTS = (
    "config.json", "model.safetensors", "tokenizer.json", "README.md",  # of a bundle
    "report.json", "ref.trn", "hyp.trn",  # of a report
)  # fmt: skip
"""What is read of a folder that has these names."""
_inputs: dict[tuple[int, int], Path] = {}


def protect(inputs: Iterable[Path]) -> None:
    """From now on no output may replace one of these files, by whatever name or link.

    Args:
        inputs: Files, and folders: bundles and reports among them count with their files.
    """
    for path in inputs:
        for file in (path, *(path / part for part in _PARTS)):
            identity = _identity(file)
            if identity is not None:
                _inputs[identity] = file


def forget_inputs() -> None:
    """Ends the protection: the command is done."""
    _inputs.clear()


def refuse_input(path: Path, *, recordings: bool = True) -> None:
    """Refuses a path for an output where a protected input, or any recording, stands already.

    Args:
        path: Of the output.
        recordings: Refuse to replace any recording, not only those that are read.

    Raises:
        ConfigError: It does.
    """
    identity = _identity(path)
    if identity is None:
        return
    if identity in _inputs:
        raise ConfigError(
            f"{path}: is read by this command ({_inputs[identity]}) and would be overwritten; "
            "expected another file for the output. Choose another name."
        )
    if recordings and is_recording(path):
        raise ConfigError(
            f"{path}: is a recording and would be overwritten; expected another file for the output. "
            "Choose another name, or remove it first."
        )


def is_recording(path: Path) -> bool:
    """Whether a name is one of audio or video."""
    kind = mimetypes.guess_type(path.name, strict=False)[0] or ""
    return kind.startswith(("audio/", "video/"))


def holds_input(folder: Path) -> bool:
    """Whether a protected input lies directly in a folder."""
    try:
        with os.scandir(folder) as entries:
            return any(_identity(Path(entry.path)) in _inputs for entry in entries)
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a regular file, links followed; None for all else."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None

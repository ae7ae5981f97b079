"""Finds out before long work whether its result can be written."""

import contextlib
from pathlib import Path

from speechmm.errors import ConfigError, SpeechmmError
from speechmm.files.atomic import write_aside, write_folder_aside
from speechmm.files.leftovers import unfinished_name


class _EnoughError(SpeechmmError):
    """Ends a block that writes, so that what stood there before still stands there."""


def check_file(path: Path | None) -> None:
    """Nothing is written yet, but folders on the way are made; None is no file.

    Raises:
        ConfigError: :func:`~speechmm.files.atomic.write_aside` cannot write there.
    """
    if path is not None:
        with contextlib.suppress(_EnoughError), write_aside(path):
            raise _EnoughError


def check_new_folder(path: Path | None, *, mark: str) -> None:
    """The same for a folder that is written as a whole.

    Args:
        path: The folder; None is none.
        mark: A file that every folder of this kind holds.

    Raises:
        ConfigError: :func:`~speechmm.files.atomic.write_folder_aside` cannot write there.
    """
    if path is not None:
        with contextlib.suppress(_EnoughError), write_folder_aside(path, mark=mark):
            raise _EnoughError


def check_folder(path: Path) -> None:
    """The same for a folder that files are added to; it is made.

    Raises:
        ConfigError: The folder cannot be made or written to, or is a file.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is a file; expected a folder for the output. Choose another.")
    probe = path / unfinished_name()
    with write_aside(probe, ours=True) as aside:
        aside.write_bytes(b"")
    probe.unlink()

"""Writes and reads the checkpoints of a training: whole or not at all, checked, the one before kept."""

from __future__ import annotations

import contextlib
import logging
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.plugins.io import TorchCheckpointIO

from speechmm.errors import CheckpointError, SpeechmmError
from speechmm.files.atomic import write_aside
from speechmm.files.leftovers import unfinished_name

logger = logging.getLogger(__name__)

LAST, BEST, PREVIOUS = "last.ckpt", "best.ckpt", "previous.ckpt"
_PARTS = ("state_dict", "epoch", "global_step")
"""What every checkpoint of a training holds."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target, waits for the disk, and renames; keeps the last one as previous.ckpt.

    Lightning's own goes by a temporary folder, which may be another file system: then a kill or a
    full disk leaves half a checkpoint under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint; PyTorch's format has a CRC-32 for every part of it.

        Raises:
            ConfigError: The disk is full, or the folder cannot be written to.
        """
        target = Path(path)
        with write_aside(target, ours=True, durable=True) as aside:
            with aside.open("wb") as stream:  # PyTorch leaves a file open where it cannot write
                torch.save(checkpoint, stream)
            if target.name == LAST and target.is_file():
                _keep(target, target.with_name(PREVIOUS))


def check_checkpoint(path: Path) -> None:
    """Reads all of a checkpoint and compares its checksums; folders of shards are left to PyTorch.

    Raises:
        CheckpointError: It is damaged, or something else.
    """
    if path.is_dir():
        return
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        found = torch.load(path, map_location="cpu", weights_only=True)  # mmap overlooks sizes
        if not isinstance(found, dict) or any(part not in found for part in _PARTS):
            raise ValueError(f"it does not hold {', '.join(_PARTS)}")
    except MemoryError:
        raise
    except Exception as error:  # PyTorch unpickles: anything may happen
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path}: cannot be read ({reason or type(error).__name__}); expected a whole "
            'checkpoint of "speechmm fit". Give another one, or remove it to train from the start.'
        ) from error


@contextlib.contextmanager
def restoring(path: str | Path | None) -> Iterator[None]:
    """Within it, what fails while a training takes up a checkpoint is said of the checkpoint, in a line.

    Args:
        path: The checkpoint, if there is one.

    Raises:
        CheckpointError: It is of another network or tokenizer, of another program, or damaged.
    """
    try:
        yield
    except (SpeechmmError, MisconfigurationException):
        raise
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        if path is None or not ("loading state_dict" in str(error) or _is_of_restoring(error)):
            raise
        raise CheckpointError(
            f"{path}: does not fit the settings ({lines[-1].strip()}); expected a checkpoint of the "
            "same network and tokenizer. Leave out --ckpt_path, or set another "
            "trainer.default_root_dir."
        ) from error


def _is_of_restoring(error: Exception) -> bool:
    """Whether an error comes from where Lightning takes up a checkpoint."""
    return any(
        frame.f_code.co_filename.endswith("checkpoint_connector.py")
        and frame.f_code.co_name.lstrip("_").startswith(("restore", "resume"))
        for frame, _ in walk_tb(error.__traceback__)
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to go on from: the last one, or the one before where that is damaged or lost.

    Raises:
        CheckpointError: What there is is damaged.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.exists():
        if not previous.is_file():
            return None
        check_checkpoint(previous)
        return previous
    try:
        check_checkpoint(last)
    except CheckpointError as error:
        if not previous.is_file():
            raise
        check_checkpoint(previous)
        logger.warning("%s Going on from %s, one checkpoint earlier.", error, previous.name)
        return previous
    return last


def keep_earlier(folder: Path, *, but: Path | None = None) -> None:
    """Puts checkpoints of another training aside under names that nothing else has.

    Args:
        folder: Of the checkpoints.
        but: One that is to be gone on from, which stays.
    """
    if (folder / LAST).is_file():
        (folder / PREVIOUS).unlink(missing_ok=True)
    for name in (LAST, PREVIOUS, BEST):
        path = folder / name
        if path.is_file() and not (but is not None and but.exists() and path.samefile(but)):
            aside = _free_name(folder, f"earlier-{path.stem}")
            path.replace(aside)
            logger.warning("%s: of an earlier training; kept as %s", path, aside.name)


def _free_name(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.ckpt", 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{stem}-{number}.ckpt"
    return path


def _keep(path: Path, kept: Path) -> None:
    """Gives a file a second name, so that there is no moment without the first."""
    aside = path.with_name(unfinished_name())
    try:
        os.link(path, aside)
        aside.replace(kept)
    except OSError:  # a file system without hard links
        path.replace(kept)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)

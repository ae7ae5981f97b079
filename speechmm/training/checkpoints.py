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
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from speechmm.errors import CheckpointError, SpeechmmError
from speechmm.files.atomic import write_aside
from speechmm.files.leftovers import unfinished_name

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""Where a run folder has them."""
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


class RunCheckpoint(ModelCheckpoint):
    """Lightning's, which knows its files again where the run folder was moved, and what is lost.

    Lightning's own forgets the best score in another folder, and takes the next one for the best.
    """

    own = False
    """Whether a training goes on from a checkpoint of this folder."""
    best_stays = True
    """Whether the best one so far is of this training: not where it goes on from an earlier checkpoint."""

    @property
    def state_key(self) -> str:
        """As Lightning's own, so that older checkpoints are understood."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up scores and names of files; of a file that is gone, none of these."""
        super().load_state_dict(self._here(state_dict) if self.own else state_dict)

    def _here(self, state: dict[str, Any]) -> dict[str, Any]:
        assert self.dirpath is not None
        folder = Path(self.dirpath)
        kept = {
            str(folder / Path(name).name): score
            for name, score in state["best_k_models"].items()
            if self.best_stays and (folder / Path(name).name).is_file()
        }
        fresh = {name: self.state_dict()[name] for name in _OF_THE_BEST}
        names = {
            name: str(folder / Path(state[name]).name) if state[name] else "" for name in _FILES
        }
        return {**state, **names, "best_k_models": kept, "dirpath": self.dirpath} | (
            {} if kept else fresh
        )


_FILES = ("best_model_path", "kth_best_model_path", "last_model_path")
_OF_THE_BEST = ("best_model_score", "best_model_path", "kth_best_model_path", "kth_value")
"""What Lightning's ModelCheckpoint says of the best files."""


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


def last_in_full(run: str | Path) -> Path:
    """The last checkpoint of a run folder by its name, which goes on with other settings, too.

    ``--ckpt_path last`` begins anew where settings have changed.
    """
    return Path(run) / CHECKPOINTS / LAST


def keep_earlier(folder: Path, *, but: Path | None = None) -> None:
    """Puts checkpoints of another training aside under names that nothing else has.

    Args:
        folder: Of the checkpoints.
        but: One that is to be gone on from, which stays; where it is the last one the best one stays, too.
    """
    there = [path for name in (LAST, PREVIOUS, BEST) if (path := folder / name).is_file()]
    stay = [path for path in there if but is not None and but.exists() and path.samefile(but)]
    if folder / LAST in stay:
        stay.append(folder / BEST)
    if folder / LAST in there and folder / PREVIOUS not in stay:
        (folder / PREVIOUS).unlink(missing_ok=True)
    for path in there:
        if path not in stay and path.is_file():
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

"""Keeps what a frozen encoder made of utterances: one file of float16 for each, found by its sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lhotse import MonoCut
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechmm.data.waveforms import recorded_span, speed_factor
from speechmm.errors import ManifestError
from speechmm.files.archives import find_member
from speechmm.files.atomic import write_aside
from speechmm.files.stamps import make_stamp


class StoredFrames:
    """A folder of frames. What they were made with is up to who names the folder.

    A file is named after the audio of its cut: place in the recording, channels and speed, and the path,
    size and date of the recording. Splits and trainings that share utterances share their files.
    """

    def __init__(self, folder: Path, width: int):
        """Writes nothing yet.

        Args:
            folder: Where the files are.
            width: Of a frame.
        """
        self.folder = folder
        self.width = width
        self._paths: dict[tuple[Any, ...], Path] = {}

    def path(self, cut: MonoCut) -> Path:
        """Where the frames of a cut are, or would be.

        Raises:
            ManifestError: The cut's audio is not one file.
        """
        audio, *span = recorded_span(cut)
        sound = (str(audio), *span, speed_factor(cut))  # ids of several sets may be the same
        known = self._paths.get(sound)
        if known is None:
            member = find_member(audio)
            name = make_stamp(list(sound), [audio if member is None else member[0]])
            known = self._paths[sound] = self.folder / name[:2] / f"{name[2:34]}.npy"
        return known

    def save(self, cut: MonoCut, frames: Float[Tensor, "frames width"]) -> None:
        """Stores frames in float16; in float32 where they are too large for that.

        Raises:
            ConfigError: The folder cannot be written to, or the disk is full.
        """
        exact = frames.float().cpu().numpy()
        with np.errstate(over="ignore"):
            small = exact.astype(np.float16)
        kept = small if np.isfinite(small).all() else exact
        with (
            write_aside(self.path(cut), ours=True) as aside,
            aside.open("wb") as file,
        ):
            np.save(file, kept, allow_pickle=False)

    def load(self, cut: MonoCut) -> Float[Tensor, "frames width"]:
        """The frames of a cut.

        Raises:
            ManifestError: They are missing or damaged.
        """
        path = self.path(cut)
        try:
            found = np.load(path, allow_pickle=False)
            if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[1] != self.width:
                raise ValueError(f"no frames of width {self.width}")
            if found.dtype not in (np.float16, np.float32) or not np.isfinite(found).all():
                raise ValueError("no finite numbers of 16 or 32 bits")
            return torch.from_numpy(found)
        except Exception as error:  # NumPy reads its header as Python: anything may happen
            raise ManifestError(
                f"cut {cut.id}: its stored frames {path} cannot be read ({error}); expected those that the "
                "start of the training wrote. Remove the file and start it again."
            ) from error


def pad_stored(
    rows: Sequence[Float[Tensor, "_ width"]], round_up: Callable[[int], int] | None
) -> Float[Tensor, "batch frames width"]:
    """Rows stacked, zeros on the right.

    Args:
        rows: One or more.
        round_up: From the length of the longest row to that of all.
    """
    exact = any(row.dtype == torch.float32 for row in rows)
    padded = pad_sequence([row.float() if exact else row for row in rows], batch_first=True)
    more = 0 if round_up is None else round_up(padded.shape[1]) - padded.shape[1]
    return torch.nn.functional.pad(padded, (0, 0, 0, more))

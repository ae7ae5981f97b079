"""Computes the mean and standard deviation of every mel band over a corpus (CMVN)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.errors import ConfigError
from speechmm.files.atomic import write_text
from speechmm.files.json_text import fits, parse_json
from speechmm.files.text import read_text

_STD_FLOOR = 1e-3  # of a band that never changes, such as digital silence


@dataclass(frozen=True)
class CmvnStats:
    """Statistics of natural-log mel power."""

    mean: Float[Tensor, " n_mels"]
    std: Float[Tensor, " n_mels"]
    frames: int

    def __post_init__(self) -> None:
        finite = torch.isfinite(self.mean).all() and torch.isfinite(self.std).all()
        if self.mean.shape != self.std.shape or not finite or not (self.std > 0).all():
            raise ConfigError(
                f"feature statistics: {len(self.mean)} means and {len(self.std)} deviations, not "
                "all finite and positive; expected one of each for every mel band. Run "
                '"speechmm features" again.'
            )

    def save(self, path: Path) -> None:
        """Writes JSON, aside and renamed.

        Raises:
            ConfigError: The place cannot be written.
        """
        row = {"frames": self.frames, "mean": self.mean.tolist(), "std": self.std.tolist()}
        write_text(path, json.dumps(row) + "\n", ours=True)

    @staticmethod
    def load(path: Path) -> CmvnStats:
        """Reads what ``save`` wrote.

        Raises:
            ConfigError: The file is missing or not of this kind.
        """
        try:
            row = parse_json(read_text(path, error=ConfigError))
            if not fits(row, {"mean": [float], "std": [float], "frames": int}):
                raise ValueError("it does not hold them")
            mean, std = torch.tensor(row["mean"]), torch.tensor(row["std"])
            return CmvnStats(mean, std, int(row["frames"]))
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise ConfigError(
                f"{path}: no feature statistics ({error}); expected JSON with mean, std and "
                'frames. Run "speechmm features" again.'
            ) from error


class CmvnAccumulator:
    """Adds up frames, in double precision."""

    def __init__(self) -> None:
        self.frames = 0
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, features: Float[Tensor, "frames n_mels"]) -> None:
        """Counts the frames of one utterance."""
        values = features.double()
        total, squares = values.sum(dim=0), values.square().sum(dim=0)
        self._sum = total if self._sum is None else self._sum + total
        self._squares = squares if self._squares is None else self._squares + squares
        self.frames += features.shape[0]

    def stats(self) -> CmvnStats:
        """Mean and standard deviation of all frames so far.

        Raises:
            ConfigError: nothing was added.
        """
        if self._sum is None or self._squares is None or not self.frames:
            raise ConfigError(
                "feature statistics: no frames; expected at least one utterance. "
                "Check the training manifest."
            )
        mean = self._sum / self.frames
        variance = (self._squares / self.frames - mean.square()).clamp(min=_STD_FLOOR**2)
        return CmvnStats(mean.float(), variance.sqrt().float(), self.frames)

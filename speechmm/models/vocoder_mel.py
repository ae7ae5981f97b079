"""Describes the log-mel that a vocoder takes, and makes it of the toolkit's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchaudio
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig, log_mel_on
from speechmm.errors import CheckpointError, ConfigError
from speechmm.files.json_text import fits
from speechmm.models.bundle_config import typed

NAMES = {
    "sample_rate": ("sampling_rate",),
    "n_mels": ("num_mels", "num_mel_bins", "model_in_dim"),
    "n_fft": ("fft_size",),
    "win_length": ("win_size",),
    "hop_length": ("hop_size",),
    "f_min": ("fmin",),
    "f_max": ("fmax",),
    "log": (),
    "magnitude": (),
    "norm": ("mel_norm",),
    "mel_scale": (),
    "floor": ("mel_floor",),
    "center": (),
}
"""What a description holds, with the names that others have for it."""
HERTZ = ("f_min", "f_max", "floor")
"""Settings with fractions, which JSON may hold without."""
CHOICES = {
    "log": ("natural", "10"),
    "magnitude": ("power", "amplitude"),
    "norm": ("slaney", None),
    "mel_scale": ("slaney",),
}
AMPLITUDE_OF_NOISE = 0.5 * math.log(math.pi / 4)
"""Log of mean amplitude over root of mean power, of Rayleigh's distribution: Fourier bins of noise.

With it, log-mel amplitude of log-mel power is 0.075 nats from the truth in a mel band of read speech."""


@dataclass(frozen=True, kw_only=True)
class VocoderMel:
    """Log-mel that a vocoder takes: the settings of the bands, and how their values are written."""

    bands: LogMelConfig
    log: str = "natural"
    """Or "10"."""
    magnitude: str = "amplitude"
    """Of Fourier bins, added up in each band: "power" or "amplitude"."""
    norm: str | None = "slaney"
    """Bands of equal area; None for bands whose peak is 1."""
    mel_scale: str = "slaney"
    floor: float = 1e-5
    """Least value that the logarithm is taken of."""
    center: bool = False
    """Whether frame ``i`` is centred on ``i`` hops, as in librosa, or half a hop later."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                names = " or ".join("null" if one is None else repr(one) for one in choices)
                raise ValueError(f"{name}: found {getattr(self, name)!r}; expected {names}")
        if not 0 < self.floor < 1:
            raise ValueError(f"floor: found {self.floor}; expected more than 0 and less than 1")

    @classmethod
    def from_json(cls, values: Mapping[str, Any], required: Sequence[str] = ()) -> VocoderMel:
        """The description in plain values, which may hold other things as well.

        Args:
            values: By the names of ``NAMES``.
            required: What they must hold besides the settings of the bands.

        Raises:
            TypeError, ValueError: A setting of the bands is missing, or one is of a wrong type or size.
            ConfigError: The settings do not fit together.
        """
        found = {}
        for name, others in NAMES.items():
            known = next((one for one in (name, *others) if one in values), None)
            if known is not None:
                value = values[known]
                found[name] = float(value) if name in HERTZ and fits(value, int) else value
        bands = {name: found.pop(name, None) for name in LogMelConfig.__dataclass_fields__}
        missing = [name for name in bands if bands[name] is None and name != "f_max"]
        missing += [name for name in required if name not in found]
        if missing:
            raise ValueError(f"there is no {missing[0]}")
        return typed(cls, found | {"bands": typed(LogMelConfig, bands)})

    def check(self, model: LogMelConfig, path: Path) -> None:
        """Refuses a vocoder whose log-mel is another one than the model's, beyond factors.

        Raises:
            ConfigError: A setting of the bands differs.
        """
        differ = [
            f"{name} {_shown(theirs)} and not {_shown(ours)}"
            for name in LogMelConfig.__dataclass_fields__
            if (theirs := _value(self.bands, name)) != (ours := _value(model, name))
        ]
        if differ:
            raise ConfigError(
                f"{path}: the vocoder's log-mel has {', '.join(differ)} as the model's; expected the "
                "same. Take another vocoder, or train the voice with these in model.tasks.tts.mel."
            )

    def of(self, log_mel: Float[Tensor, "frames n_mels"]) -> Float[Tensor, "frames n_mels"]:
        """What the vocoder takes, of the natural log of slaney mel power.

        Amplitudes are estimated: the sum of a band's bins is taken for that of noise of its power.
        """
        sums = _band_sums(self.bands, "slaney").log()
        values = log_mel.float()
        if self.magnitude == "amplitude":
            values = 0.5 * (values + sums) + AMPLITUDE_OF_NOISE
        values = values + (_band_sums(self.bands, self.norm).log() - sums)
        values = values.clamp(min=math.log(self.floor))
        return values / math.log(10) if self.log == "10" else values


def _value(bands: LogMelConfig, name: str) -> float:
    top = name == "f_max" and bands.f_max is None
    return bands.sample_rate / 2 if top else float(getattr(bands, name))


def _shown(value: float) -> str:
    return f"{value:g}" if value < 1e5 else str(int(value))


def _band_sums(bands: LogMelConfig, norm: str | None) -> Float[Tensor, " n_mels"]:
    """The sum of the weights of each band's Fourier bins."""
    if norm == "slaney":
        return (
            log_mel_on(bands, torch.device("cpu")).bands[::2].sum(dim=0)
        )  # each row is there twice
    found: Tensor = torchaudio.functional.melscale_fbanks(
        n_freqs=bands.n_fft // 2 + 1,
        f_min=bands.f_min,
        f_max=_value(bands, "f_max"),
        n_mels=bands.n_mels,
        sample_rate=bands.sample_rate,
        norm=norm,
        mel_scale="slaney",
    ).sum(dim=0)
    return found


def read_description(
    path: Path, values: Mapping[str, Any], required: Sequence[str] = ()
) -> VocoderMel:
    """The description in a file's values.

    Raises:
        CheckpointError: Something of it is missing or wrong.
    """
    try:
        return VocoderMel.from_json(values, required)
    except (TypeError, ValueError, ConfigError) as error:
        said = str(error).rstrip(".")
        raise CheckpointError(
            f"{path}: {said}; expected a description of the vocoder's log-mel "
            "(docs/synthesis.md). Correct it."
        ) from error

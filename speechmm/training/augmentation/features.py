"""Changes level, voice and tempo of training features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.models.readback import to_device
from speechmm.training.constants import constant


@dataclass(frozen=True, kw_only=True)
class FeatureAugmentConfig:
    """Level, voice and tempo of training utterances."""

    gain_db: float = 6.0
    """Level offset per utterance, drawn from -gain_db to +gain_db; of no effect on a model with
    ``utterance_cmn``."""
    vtlp: float = 0.0
    """Stretch of the frequency axis per utterance, drawn from 1 - vtlp to 1 + vtlp: the same words
    from a longer or shorter vocal tract. Source: Jaitly and Hinton 2013, "Vocal Tract Length
    Perturbation (VTLP) improves speech recognition"."""
    tempo: float = 0.0
    """Speaking rate per utterance, drawn from 1 - tempo to 1 + tempo times its own, at the same pitch."""

    def __post_init__(self) -> None:
        if self.gain_db < 0 or not 0.0 <= self.vtlp < 1.0 or not 0.0 <= self.tempo < 1.0:
            raise ConfigError(
                f"model.augmentation.features: gain_db is {self.gain_db}, vtlp {self.vtlp}, tempo "
                f"{self.tempo}; expected no negative level, and 0 to below 1. Correct the config."
            )


def random_gain(
    features: Float[Tensor, "batch frames n_mels"],
    config: FeatureAugmentConfig,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch frames n_mels"]:
    """Log power plus one random offset per utterance, as if the audio were louder or softer."""
    draw = torch.rand(features.shape[0], 1, 1, generator=generator, device=features.device)
    decibel_in_nats = math.log(10.0) / 10.0
    return features + (2 * draw - 1) * config.gain_db * decibel_in_nats


def random_vtlp(
    features: Float[Tensor, "batch frames n_mels"],
    log_mel: LogMelConfig,
    config: FeatureAugmentConfig,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch frames n_mels"]:
    """Log power as from other vocal tracts: each band reads at a multiple of its frequency.

    Args:
        features: Natural log of mel power.
        log_mel: Says where the bands are; beyond the last one its value is repeated.
        config: How far.
        generator: Of the random factor of each utterance; torch's own when not given.
    """
    if not config.vtlp or features.shape[2] < 2:
        return features
    draw = torch.rand(features.shape[0], 1, generator=generator, device=features.device)
    band_hz = constant(tuple(log_mel.band_hz.tolist()), features.device)
    wanted = (band_hz * (1 + (2 * draw - 1) * config.vtlp)).clamp(band_hz[0], band_hz[-1])
    upper = torch.searchsorted(band_hz, wanted).clamp(min=1)
    below, above = band_hz[upper - 1], band_hz[upper]
    share = ((wanted - below) / (above - below)).to(features.dtype)[:, None, :]
    upper = upper[:, None, :].expand_as(features)
    return torch.lerp(features.gather(2, upper - 1), features.gather(2, upper), share)


def random_tempo(
    features: Float[Tensor, "batch frames n_mels"],
    lengths: Int[Tensor, " batch"],
    config: FeatureAugmentConfig,
    generator: torch.Generator | None = None,
    *,
    known: Sequence[int] | None = None,
) -> tuple[Float[Tensor, "batch new_frames n_mels"], Int[Tensor, " batch"], list[int]]:
    """Log power as if spoken faster or slower at the same pitch: interpolated between frames.

    Args:
        features: Natural log of mel power.
        lengths: Frames of each utterance.
        config: How far.
        generator: Of the random factor of each utterance, on the host; torch's own when not given.
        known: The lengths as the host knows them, so that nobody has to ask the device.

    Returns:
        The features, zeros after the end of each utterance, and the new lengths, on the device
        and on the host.
    """
    known = lengths.tolist() if known is None else list(known)
    if not config.tempo:
        return features, lengths, known
    # drawn on the host, which must know how long the result is
    draw = torch.rand(features.shape[0], generator=generator)
    factor = 1 + (2 * draw - 1) * config.tempo
    old = torch.tensor(known)
    new = (old / factor).round().clamp(min=1).to(lengths.dtype) * (old > 0)
    factor, new_lengths = (to_device(one, features.device) for one in (factor, new))
    last = (lengths - 1).clamp(min=0)[:, None]
    frame = torch.arange(int(new.max()), device=features.device)[None, :]
    place = torch.minimum(frame * factor[:, None], last.to(factor.dtype))
    before = place.floor().long()
    after = torch.minimum(before + 1, last)
    share = (place - before).to(features.dtype)[:, :, None]
    wide = (-1, -1, features.shape[2])
    mixed = torch.lerp(
        features.gather(1, before[:, :, None].expand(wide)),
        features.gather(1, after[:, :, None].expand(wide)),
        share,
    )
    return mixed * (frame < new_lengths[:, None])[:, :, None], new_lengths, new.tolist()

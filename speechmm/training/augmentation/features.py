"""Changes to training features that keep their text: level, voice, tempo, masks, speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.audio.resample import perturb_speed
from speechmm.errors import ConfigError

__all__ = [
    "SpecAugmentConfig",
    "perturb_speed",
    "random_gain",
    "random_groups",
    "random_tempo",
    "random_voice",
    "spec_augment",
]


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    """Changes to training features: masks, level, voice, tempo, and utterances joined."""

    time_masks: int = 2
    """Masks along time per utterance."""
    time_mask_frames: int = 20
    """Widest time mask in feature frames (10 ms)."""
    time_mask_multiplicity: float = 0.0
    """Masks along time for each feature frame, where that is more than ``time_masks``: long
    utterances get more. Source: Park et al. 2020, "SpecAugment on Large Scale Datasets",
    adaptive multiplicity."""
    time_mask_share: float = 0.15
    """Widest time mask as a share of the utterance."""
    freq_masks: int = 2
    """Masks along frequency per utterance."""
    freq_mask_bins: int = 15
    """Widest frequency mask in mel bands."""
    gain_db: float = 6.0
    """Level offset per utterance, drawn from -gain_db to +gain_db; of no effect on a model that
    subtracts the utterance's mean."""
    voice: float = 0.0
    """Stretch of the frequency axis per utterance, drawn from 1 - voice to 1 + voice: the same words
    from a longer or shorter vocal tract. Source: Jaitly and Hinton 2013, "Vocal Tract Length
    Perturbation (VTLP) improves speech recognition"."""
    tempo: float = 0.0
    """Speaking rate per utterance, drawn from 1 - tempo to 1 + tempo times its own, the voice unchanged."""
    join_share: float = 0.0
    """Share of batches whose utterances are joined, two to ``join_most`` at a time, so that a corpus of
    short utterances teaches what long ones are like."""
    join_most: int = 4
    """Most utterances in one."""
    join_frames: int = 2000
    """Longest joined utterance in feature frames (10 ms)."""

    def __post_init__(self) -> None:
        if min(self.time_masks, self.freq_masks, self.time_mask_frames, self.freq_mask_bins) < 0:
            raise ConfigError(
                "augment: a number or width of masks is negative; expected 0 or more. "
                "Correct the config."
            )
        shares = (self.time_mask_share, self.time_mask_multiplicity)
        if any(not 0.0 <= share <= 1.0 for share in shares) or self.gain_db < 0:
            raise ConfigError(
                f"augment: time_mask_share, time_mask_multiplicity are {shares}, gain_db "
                f"{self.gain_db}; expected 0 to 1 and no negative level. Correct the config."
            )
        if not 0.0 <= self.voice < 1.0 or not 0.0 <= self.tempo < 1.0:
            raise ConfigError(
                f"augment: voice is {self.voice}, tempo {self.tempo}; expected 0 to below 1. "
                "Correct the config."
            )
        if not 0.0 <= self.join_share <= 1.0 or self.join_most < 2:
            raise ConfigError(
                f"augment: join_share is {self.join_share}, join_most {self.join_most}; expected 0 "
                "to 1, and 2 or more. Correct the config."
            )


def random_gain(
    features: Float[Tensor, "batch frames n_mels"],
    config: SpecAugmentConfig,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch frames n_mels"]:
    """Log power plus one random offset per utterance, as if the audio were louder or softer."""
    draw = torch.rand(features.shape[0], 1, 1, generator=generator, device=features.device)
    decibel_in_nats = math.log(10.0) / 10.0
    return features + (2 * draw - 1) * config.gain_db * decibel_in_nats


def random_voice(
    features: Float[Tensor, "batch frames n_mels"],
    log_mel: LogMelConfig,
    config: SpecAugmentConfig,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch frames n_mels"]:
    """Log power as from other vocal tracts: each band reads at a multiple of its frequency.

    Args:
        features: Natural log of mel power.
        log_mel: Says where the bands are; beyond the last one its value is repeated.
        config: How far.
        generator: Of the random factor of each utterance; torch's own when not given.
    """
    if not config.voice or features.shape[2] < 2:
        return features
    draw = torch.rand(features.shape[0], 1, generator=generator, device=features.device)
    band_hz = log_mel.band_hz.to(features.device)
    wanted = (band_hz * (1 + (2 * draw - 1) * config.voice)).clamp(band_hz[0], band_hz[-1])
    upper = torch.searchsorted(band_hz, wanted).clamp(min=1)
    below, above = band_hz[upper - 1], band_hz[upper]
    share = ((wanted - below) / (above - below)).to(features.dtype)[:, None, :]
    upper = upper[:, None, :].expand_as(features)
    return torch.lerp(features.gather(2, upper - 1), features.gather(2, upper), share)


def random_tempo(
    features: Float[Tensor, "batch frames n_mels"],
    lengths: Int[Tensor, " batch"],
    config: SpecAugmentConfig,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "batch new_frames n_mels"], Int[Tensor, " batch"]]:
    """Log power as if spoken faster or slower by the same voice: frames between frames.

    Args:
        features: Natural log of mel power.
        lengths: Frames of each utterance.
        config: How far.
        generator: Of the random factor of each utterance; torch's own when not given.

    Returns:
        The features, zeros after the end of each utterance, and the new lengths.
    """
    if not config.tempo:
        return features, lengths
    draw = torch.rand(features.shape[0], generator=generator, device=features.device)
    factor = 1 + (2 * draw - 1) * config.tempo
    new_lengths = (lengths / factor).round().clamp(min=1).to(lengths.dtype)
    new_lengths = new_lengths * (lengths > 0)
    last = (lengths - 1).clamp(min=0)[:, None]
    frame = torch.arange(int(new_lengths.max()), device=features.device)[None, :]
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
    return mixed * (frame < new_lengths[:, None])[:, :, None], new_lengths


def random_groups(
    lengths: Int[Tensor, " batch"],
    config: SpecAugmentConfig,
    generator: torch.Generator | None = None,
) -> list[list[int]] | None:
    """Neighbours to join to one utterance; None where the batch stays as it is.

    Args:
        lengths: Frames of each utterance.
        config: How often, how many, how long.
        generator: Of the random choices; torch's own when not given.
    """
    if not config.join_share or float(torch.rand((), generator=generator)) >= config.join_share:
        return None
    groups: list[list[int]] = []
    wanted = frames = 0
    for row, length in enumerate(lengths.tolist()):
        if wanted and frames + length <= config.join_frames:
            groups[-1].append(row)
            wanted, frames = wanted - 1, frames + length
        else:
            groups.append([row])
            wanted = int(torch.randint(1, config.join_most, (), generator=generator))
            frames = length
    return groups


def spec_augment(
    features: Float[Tensor, "batch frames n_mels"],
    lengths: Int[Tensor, " batch"],
    config: SpecAugmentConfig,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch frames n_mels"]:
    """Masks random stretches of time and bands of frequency with the utterance's mean.

    Source: Park et al. 2019, "SpecAugment", with the adaptive width and number of Park et al. 2020.
    """
    batch, frames, n_mels = features.shape
    device = features.device
    valid = torch.arange(frames, device=device)[None, :] < lengths[:, None]
    widest = (lengths * config.time_mask_share).floor().clamp(max=config.time_mask_frames)
    most = max(config.time_masks, math.floor(config.time_mask_multiplicity * frames))
    wanted = (lengths * config.time_mask_multiplicity).floor().clamp(min=config.time_masks)
    widths = widest[:, None] * (torch.arange(most, device=device) < wanted[:, None])
    in_time = _stretches(widths, lengths.to(widths.dtype), frames, generator)
    bands = torch.full((batch,), float(n_mels), device=device)
    limit = bands.new_full((batch, config.freq_masks), float(min(config.freq_mask_bins, n_mels)))
    in_freq = _stretches(limit, bands, n_mels, generator)
    masked = (in_time[:, :, None] | in_freq[:, None, :]) & valid[:, :, None]
    count = (lengths * n_mels).clamp(min=1).to(features.dtype)
    mean = (features * valid[:, :, None]).sum(dim=(1, 2)) / count
    return torch.where(masked, mean[:, None, None], features)


def _stretches(
    widest: Float[Tensor, "batch count"],
    extent: Float[Tensor, " batch"],
    size: int,
    generator: torch.Generator | None,
) -> Bool[Tensor, "batch size"]:
    """True inside random stretches of each row, each up to its ``widest`` within ``extent``."""
    shape = (*widest.shape, 1)
    width = torch.rand(shape, generator=generator, device=widest.device)
    width = (width * (widest[:, :, None] + 1)).floor()
    place = torch.rand(shape, generator=generator, device=widest.device)
    start = (place * (extent[:, None, None] - width + 1).clamp(min=0)).floor()
    position = torch.arange(size, device=widest.device)[None, None, :]
    return ((position >= start) & (position < start + width)).any(dim=1)

"""Masks stretches of time and bands of frequency in training features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig:
    """Number and width of masks."""

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

    def __post_init__(self) -> None:
        if min(self.time_masks, self.freq_masks, self.time_mask_frames, self.freq_mask_bins) < 0:
            raise ConfigError(
                "model.augmentation.spec_augment: a number or width of masks is negative; expected 0 or "
                "more. Correct the config."
            )
        shares = (self.time_mask_share, self.time_mask_multiplicity)
        if any(not 0.0 <= share <= 1.0 for share in shares):
            raise ConfigError(
                f"model.augmentation.spec_augment: time_mask_share, time_mask_multiplicity are {shares}; "
                "expected 0 to 1. Correct the config."
            )


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
    in_time = _random_spans(widths, lengths.to(widths.dtype), frames, generator)
    bands = torch.full((batch,), float(n_mels), device=device)
    limit = bands.new_full((batch, config.freq_masks), float(min(config.freq_mask_bins, n_mels)))
    in_freq = _random_spans(limit, bands, n_mels, generator)
    masked = (in_time[:, :, None] | in_freq[:, None, :]) & valid[:, :, None]
    exact = torch.promote_types(features.dtype, torch.float32)  # so many do not fit into float16
    total = (features * valid[:, :, None]).sum(dim=(1, 2), dtype=exact)
    mean = (total / (lengths * n_mels).clamp(min=1)).to(features.dtype)
    return torch.where(masked, mean[:, None, None], features)


def _random_spans(
    widest: Float[Tensor, "batch count"],
    extent: Float[Tensor, " batch"],
    size: int,
    generator: torch.Generator | None,
) -> Bool[Tensor, "batch size"]:
    """True inside random spans of each row, each up to its ``widest`` within ``extent``."""
    shape = (*widest.shape, 1)
    width = torch.rand(shape, generator=generator, device=widest.device)
    width = (width * (widest[:, :, None] + 1)).floor()
    place = torch.rand(shape, generator=generator, device=widest.device)
    start = (place * (extent[:, None, None] - width + 1).clamp(min=0)).floor()
    position = torch.arange(size, device=widest.device)[None, None, :]
    return ((position >= start) & (position < start + width)).any(dim=1)

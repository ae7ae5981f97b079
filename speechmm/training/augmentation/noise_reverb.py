"""Adds noise and reverberation to training features.

Powers of independent sounds add, in a mel band as in the air, so both are applied to the features:
no audio, no noise corpus and no room simulator is needed, and it costs a hundredth of a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.audio.log_mel import FLOOR
from speechmm.errors import ConfigError

KNOTS = 6  # of the random spectra of noise
COLOUR_DB = 15.0  # largest offset of a knot
DECAY_NATS = math.log(1e6)  # of power in the reverberation time, 60 dB
MIN_REVERB_SECONDS = 0.1  # seconds
MAX_REVERB_DB, MIN_REVERB_DB = 0.0, -15.0  # reverberation, relative to the direct sound


@dataclass(frozen=True, kw_only=True)
class NoiseReverbConfig:
    """How many training utterances get noise and reverberation, and how much."""

    noise_share: float = 0.0
    """Share of utterances with noise; half of it steady and coloured, half another utterance."""
    noise_min_db: float = 5.0
    """Loudest noise: the lowest signal-to-noise ratio."""
    noise_max_db: float = 30.0
    """Softest noise."""
    reverb_share: float = 0.0
    """Share of utterances with reverberation."""
    reverb_seconds: float = 0.6
    """Longest time of decay by 60 dB; the shortest is 0.1 s."""

    def __post_init__(self) -> None:
        shares = (self.noise_share, self.reverb_share)
        if any(not 0.0 <= share <= 1.0 for share in shares):
            raise ConfigError(
                f"model.augmentation.noise_reverb: noise_share, reverb_share are {shares}; "
                "expected 0 to 1 each. Correct the config."
            )
        if self.noise_min_db > self.noise_max_db or self.reverb_seconds < MIN_REVERB_SECONDS:
            raise ConfigError(
                f"model.augmentation.noise_reverb: noise_min_db {self.noise_min_db}, "
                f"noise_max_db {self.noise_max_db}, reverb_seconds {self.reverb_seconds}; expected "
                f"noise_min_db not above noise_max_db, and {MIN_REVERB_SECONDS} s or more. "
                "Correct the config."
            )


def add_noise_reverb(
    features: Float[Tensor, "batch frames n_mels"],
    lengths: Int[Tensor, " batch"],
    config: NoiseReverbConfig,
    generator: torch.Generator | None = None,
    *,
    frame_shift: float = 0.01,
) -> Float[Tensor, "batch frames n_mels"]:
    """The utterances with random noise and reverberation; padding is left alone.

    Args:
        features: Natural log of mel power.
        lengths: Valid frames.
        config: How often and how much.
        generator: Of the random choices; torch's own when not given.
        frame_shift: Seconds from frame to frame.
    """
    if not (config.noise_share or config.reverb_share):
        return features
    device = features.device
    batch, frames, _ = features.shape
    valid = (torch.arange(frames, device=device)[None, :] < lengths[:, None])[:, :, None]
    power = features.exp() * valid
    if config.reverb_share:
        chosen = _chosen(batch, config.reverb_share, generator, device)
        echoed = _reverberate(power, config, frame_shift, generator)
        power = torch.where(chosen[:, None, None], echoed, power)
    if config.noise_share:
        chosen = _chosen(batch, config.noise_share, generator, device)
        noise = _noise(power, lengths, config, generator)
        power = power + noise * chosen[:, None, None]
    return torch.where(valid, power.clamp(min=FLOOR).log(), features)


def _chosen(
    batch: int, share: float, generator: torch.Generator | None, device: torch.device
) -> Bool[Tensor, " batch"]:
    return torch.rand(batch, generator=generator, device=device) < share


def _uniform(
    shape: tuple[int, ...],
    low: float,
    high: float,
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=device)


def _reverberate(
    power: Tensor, config: NoiseReverbConfig, frame_shift: float, generator: torch.Generator | None
) -> Tensor:
    """Adds to each frame what is left of the frames before: an exponentially decaying tail.

    Source: Polack 1988, "La transmission de l'énergie sonore dans les salles".
    """
    batch, _, n_mels = power.shape
    device = power.device
    seconds = _uniform((batch, 1), MIN_REVERB_SECONDS, config.reverb_seconds, generator, device)
    taps = max(1, round(config.reverb_seconds / frame_shift / 2))
    delay = torch.arange(1, taps + 1, device=device) * frame_shift
    tail = torch.exp(-DECAY_NATS * delay[None, :] / seconds)
    level = _uniform((batch, 1), MIN_REVERB_DB, MAX_REVERB_DB, generator, device)
    tail = tail / tail.sum(dim=1, keepdim=True) * 10 ** (level / 10)
    kernel = torch.cat([tail.flip(1), torch.ones(batch, 1, device=device)], dim=1)
    by_band = F.pad(power.permute(2, 0, 1), (taps, 0))
    out = F.conv1d(by_band, kernel[:, None, :].to(power.dtype), groups=batch)
    assert out.shape == (n_mels, batch, power.shape[1])
    return out.permute(1, 2, 0)


def _noise(
    power: Tensor, lengths: Tensor, config: NoiseReverbConfig, generator: torch.Generator | None
) -> Tensor:
    """Noise at random signal-to-noise ratios: steady, or the utterance before it in the batch.

    The ratio is that of the utterance's own frames, however long the batch is. The other utterance
    begins in its middle and is repeated as often as it takes.
    """
    batch, frames, n_mels = power.shape
    device = power.device
    knots = _uniform((batch, 1, KNOTS), -COLOUR_DB, COLOUR_DB, generator, device)
    colour = F.interpolate(knots, size=n_mels, mode="linear", align_corners=True)
    # A mel band of noise is a mean over few independent values: it flickers from frame to frame.
    flicker = -torch.rand(power.shape, generator=generator, device=device).clamp(min=1e-6).log()
    steady = 10 ** (colour / 10) * (0.5 + 0.5 * flicker)
    frame = torch.arange(frames, device=device)[None, :]
    length = lengths.roll(1).clamp(min=1)[:, None]
    place = ((frame + length // 2) % length)[:, :, None].expand(-1, -1, n_mels)
    other = power.roll(1, dims=0).gather(1, place)
    babble = _chosen(batch, 0.5 if batch > 1 else 0.0, generator, device)
    noise = torch.where(babble[:, None, None], other, steady)
    noise = noise * (frame < lengths[:, None])[:, :, None]
    ratio = _uniform((batch, 1, 1), config.noise_min_db, config.noise_max_db, generator, device)
    wanted = power.sum(dim=(1, 2), keepdim=True) * 10 ** (-ratio / 10)
    return noise * wanted / noise.sum(dim=(1, 2), keepdim=True).clamp(min=FLOOR)

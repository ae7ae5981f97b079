"""Turns log-mel into a waveform without a trained vocoder: Griffin and Lim's algorithm."""

from __future__ import annotations

import torch
import torchaudio
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig, log_mel_on

ITERATIONS = 32
MOMENTUM = 0.99
SEED = 0
"""Of the phases it begins with: the same log-mel always gives the same samples."""
_LEAST_POWER = 1e-12
_FITTING_STEPS = 30
"""Of the power of Fourier bins; the bands of speech then are 0.003 nats from those asked for."""


@torch.no_grad()
def griffin_lim(
    log_mel: Float[Tensor, "frames n_mels"], config: LogMelConfig, *, iterations: int = ITERATIONS
) -> Float[Tensor, " samples"]:
    """A waveform whose log-mel is as asked, on a CPU; (frames - 1) * hop_length samples.

    The power of each Fourier bin is that of :func:`bin_power`. The phases are found by Griffin and Lim
    1984, with the momentum of Perraudin et al. 2013, "A fast Griffin-Lim algorithm". It may be louder than
    full scale (:func:`within_full_scale`).

    Args:
        log_mel: Natural log of mel power.
        config: Its settings.
        iterations: The more, the less metallic.
    """
    mel = log_mel.detach().float().cpu()
    power = bin_power(mel.exp(), config)
    samples = (len(mel) - 1) * config.hop_length
    if samples < 1:
        return torch.zeros(0)
    window = log_mel_on(config, torch.device("cpu")).window
    if samples <= config.n_fft // 2:  # too short to be mirrored at its ends, as the algorithm does
        short = torch.cat([power, power[-1:].expand(config.n_fft // config.hop_length + 1, -1)])
        return griffin_lim_of_power(short, window, config, iterations)[:samples]
    return griffin_lim_of_power(power, window, config, iterations)[:samples]


def griffin_lim_of_power(
    power: Float[Tensor, "frames bins"],
    window: Float[Tensor, " win_length"],
    config: LogMelConfig,
    iterations: int,
) -> Float[Tensor, " samples"]:
    """A waveform of a power spectrogram."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        found: Tensor = torchaudio.functional.griffinlim(
            power.T,
            window,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            win_length=config.win_length,
            power=2.0,
            n_iter=iterations,
            momentum=MOMENTUM,
            length=(len(power) - 1) * config.hop_length,
            rand_init=True,
        )
    return found


def within_full_scale(samples: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Samples no louder than full scale: as they are, or all scaled down alike."""
    return samples / samples.abs().max().clamp(min=1.0) if len(samples) else samples


def bin_power(
    mel_power: Float[Tensor, "frames n_mels"], config: LogMelConfig
) -> Float[Tensor, "frames bins"]:
    """The power of Fourier bins, nowhere negative, that adds up to the power of mel bands.

    Many do. It begins with each bin as loud as the bands around it, and is made to fit by the
    multiplicative rule of Lee and Seung 2001, "Algorithms for non-negative matrix factorization"
    (equation 5, with the bands held fixed).

    Args:
        mel_power: Of mel bands.
        config: Their settings.
    """
    bands = log_mel_on(config, torch.device("cpu")).bands[::2]  # each row stands there twice
    in_bands = bands.sum(dim=1).clamp(min=_LEAST_POWER)
    power = (mel_power / bands.sum(dim=0)) @ bands.T / in_bands
    for _ in range(_FITTING_STEPS):
        found = (power @ bands).clamp(min=_LEAST_POWER)
        power = power * ((mel_power / found) @ bands.T / in_bands)
    fitted: Tensor = power.clamp(min=_LEAST_POWER)
    return fitted

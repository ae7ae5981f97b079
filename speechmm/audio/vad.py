"""Where long audio may be cut: at its quietest places."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

STEP_SECONDS = 0.01  # resolution of a cut
PAUSE_SECONDS = 0.15  # stretch whose energy decides


def split_at_silence(
    waveform: Float[Tensor, " samples"],
    sample_rate: int,
    *,
    max_seconds: float = 20.0,
    min_seconds: float = 5.0,
) -> list[tuple[int, int]]:
    """Cuts audio into pieces of at most ``max_seconds`` at the quietest places.

    Each cut is the middle of the quietest ``PAUSE_SECONDS`` between ``min_seconds`` and
    ``max_seconds`` after the last one.

    Args:
        waveform: Mono audio.
        sample_rate: Hz.
        max_seconds: Longest piece in seconds.
        min_seconds: Shortest piece in seconds; only the last may be shorter.

    Returns:
        (first sample, end sample) of each piece: contiguous, from 0 to the end.
    """
    samples = waveform.shape[0]
    step = max(1, round(STEP_SECONDS * sample_rate))
    longest, shortest = round(max_seconds * sample_rate), round(min_seconds * sample_rate)
    pieces = []
    begin = 0
    energy = _smooth_energy(waveform, step) if samples > longest else torch.empty(0)
    while samples - begin > longest:
        first, last = (begin + shortest) // step, (begin + longest) // step
        quietest = first + int(energy[first:last].argmin())
        cut = min(begin + longest, max(begin + 1, quietest * step + step // 2))
        pieces.append((begin, cut))
        begin = cut
    pieces.append((begin, samples))
    return pieces


def _smooth_energy(waveform: Float[Tensor, " samples"], step: int) -> Float[Tensor, " steps"]:
    """Mean power of the ``PAUSE_SECONDS`` around each step."""
    usable = waveform[: waveform.shape[0] // step * step].reshape(-1, step)
    power = usable.square().mean(dim=1)
    width = 2 * (round(PAUSE_SECONDS / STEP_SECONDS) // 2) + 1
    padded = torch.nn.functional.pad(power[None, None], (width // 2, width // 2), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, width, stride=1)[0, 0]

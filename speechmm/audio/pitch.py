"""Tracks the pitch of speech: log fundamental frequency, and how much each frame says about it."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

LOWEST_HZ, HIGHEST_HZ = 65.0, 500.0
LEAST_CORRELATION = 0.5
"""Of a frame with itself a period later, for the frame to be called voiced."""
_FRAME_SECONDS = 0.05
"""Three periods of the lowest pitch."""


def track_pitch(
    waveform: Float[Tensor, " samples"], sample_rate: int, hop_length: int
) -> tuple[Float[Tensor, " frames"], Float[Tensor, " frames"]]:
    """Natural log of the pitch in Hz, and the weight of each frame: its level (RMS) where voiced, else 0.

    The pitch is librosa's YIN (de Cheveigne and Kawahara 2002). A frame is voiced where it is like
    itself one period later. There are 1 + samples // hop_length frames, centred on multiples of it.

    Args:
        waveform: Full scale 1.
        sample_rate: Hz.
        hop_length: Samples from frame to frame.
    """
    import librosa

    size = 1 << math.ceil(math.log2(_FRAME_SECONDS * sample_rate))
    samples = waveform.numpy().astype(np.float64)
    hertz = librosa.yin(
        samples,
        fmin=LOWEST_HZ,
        fmax=min(HIGHEST_HZ, 0.45 * sample_rate),
        sr=sample_rate,
        frame_length=size,
        hop_length=hop_length,
        pad_mode="constant",
    )
    padded = np.pad(samples, size // 2)
    frames = librosa.util.frame(padded, frame_length=size, hop_length=hop_length).T
    correlation = _self_likeness(frames, np.rint(sample_rate / hertz).astype(np.int64))
    level = np.sqrt(np.square(frames).mean(axis=1))
    weight = np.where(correlation > LEAST_CORRELATION, level, 0.0)
    return torch.from_numpy(np.log(hertz)).float(), torch.from_numpy(weight).float()


def _self_likeness(frames: NDArray[np.float64], periods: NDArray[np.int64]) -> NDArray[np.float64]:
    """The correlation of each frame with itself, its own period later; in [-1, 1]."""
    width = frames.shape[1] - int(periods.max(initial=1))
    places = np.arange(width)[None, :] + periods[:, None]
    first, second = frames[:, :width], np.take_along_axis(frames, places, axis=1)
    power = np.square(first).sum(axis=1) * np.square(second).sum(axis=1)
    likeness: NDArray[np.float64] = (first * second).sum(axis=1) / np.sqrt(power + 1e-12)
    return likeness

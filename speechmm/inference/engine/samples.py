"""Turns what a Python caller gives as audio into a path or mono samples at the model's rate."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from speechmm.audio.channels import choose_columns
from speechmm.audio.io import LOUDEST, RATES, read_audio
from speechmm.audio.resample import resample
from speechmm.errors import AudioError, ConfigError
from speechmm.files.pipes import forget_pipes, is_pipe

MOST_CHANNELS = 32

EXPECTED = "expected a path, or samples in [-1, 1] (numpy, tensor or list of numbers)"


def as_audio(
    audio: object, *, sample_rate: object, model_rate: int
) -> Path | Float[Tensor, " samples"]:
    """A path as it is, a pipe's audio read; samples as float32, mono, at the rate of the model.

    Args:
        audio: A path, or samples: floats with full scale 1, or integers of 8, 16 or 32 bits with
            their own full scale; (samples,), (channels, samples) or (samples, channels), of which
            channels are the fewer, and are averaged (the loudest is taken where they cancel).
        sample_rate: Of samples, Hz; None means the model's.
        model_rate: Wanted rate, Hz.

    Raises:
        AudioError: It is nothing of these, or holds no samples or such as are not finite.
        ConfigError: A rate is given for a file, which says its own.
    """
    if isinstance(audio, (str, os.PathLike)):
        if sample_rate is not None:
            raise ConfigError(
                f"sample_rate: found {sample_rate!r} for a file, which says its own rate; expected "
                "it with samples only. Leave it out."
            )
        if not os.fspath(audio):
            raise AudioError(f"audio: found an empty path; {EXPECTED}. Name a file.")
        path = Path(os.fsdecode(audio))
        if not is_pipe(path):
            return path
        try:
            return read_audio(path, sample_rate=model_rate)
        finally:
            forget_pipes(path)  # next time it may give something else
    rate = model_rate if sample_rate is None else _rate(sample_rate)
    samples = torch.from_numpy(_mono(_array(audio), rate))
    return resample(samples, from_rate=rate, to_rate=model_rate)


def _rate(value: object) -> int:
    known = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not known or not RATES[0] <= value <= RATES[1] or value != round(value):  # type: ignore[operator,call-overload]
        raise AudioError(
            f"sample_rate: found {value!r}; expected a whole number of Hz from {RATES[0]} to "
            f"{RATES[1]}. Give the rate that the samples were taken at."
        )
    return int(value)  # type: ignore[call-overload,no-any-return]


def _array(audio: object) -> NDArray[np.float32]:
    """The numbers, full scale 1, in whatever shape they come."""
    try:
        if isinstance(audio, Tensor):
            audio = audio.detach().cpu()
            found = (audio.float() if audio.dtype == torch.bfloat16 else audio).numpy()
        elif isinstance(audio, np.ndarray):
            found = np.asarray(audio)
        elif isinstance(audio, (list, tuple)):
            found = np.asarray(audio, dtype=np.float64)
        else:
            raise TypeError(f"it is of type {type(audio).__name__}")
        kind, bits = found.dtype.kind, 8 * found.dtype.itemsize
        if kind == "f":
            with np.errstate(over="ignore"):
                return found.astype(np.float32)
        if kind not in "iu" or bits > 32:
            raise TypeError(f"its numbers are {found.dtype}")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise AudioError(f"audio: cannot be used ({error}); {EXPECTED}. Convert it.") from error
    full_scale = float(2 ** (bits - 1))
    return ((found.astype(np.float64) - (full_scale if kind == "u" else 0.0)) / full_scale).astype(
        np.float32
    )


def _mono(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Channels averaged, or one of them where they cancel each other, as of files.

    Checked to hold samples, all finite and on the scale of [-1, 1].
    """
    shape = samples.shape
    if samples.ndim > 2:
        samples = samples.squeeze()
    if samples.size == 0:
        raise AudioError("audio: it holds no samples; expected audio of some length. Record it.")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and min(samples.shape) > MOST_CHANNELS):
        raise AudioError(
            f"audio: its shape is {shape}; expected (samples,), (channels, samples) or (samples, "
            f"channels) with at most {MOST_CHANNELS} channels. Give one recording at a time."
        )
    peak = float(np.abs(samples).max())
    if not math.isfinite(peak):
        raise AudioError(
            "audio: a sample is not a finite number; expected samples in [-1, 1]. Make it again "
            "without NaN and infinity."
        )
    if peak > LOUDEST:
        raise AudioError(
            f"audio: a sample has the value {peak:g}; expected samples in [-1, 1]. Divide by full "
            "scale (32768 for 16 bits), or give whole numbers as int16."
        )
    if samples.ndim == 2:
        rows = samples.T if samples.shape[0] <= samples.shape[1] else samples
        blocks = (rows[at : at + rate] for at in range(0, len(rows), rate))
        chosen = choose_columns(blocks, tuple(range(rows.shape[1])), Path("audio"))
        samples = rows[:, chosen].mean(axis=1)
    return np.ascontiguousarray(samples)

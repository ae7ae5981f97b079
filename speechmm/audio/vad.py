"""Cuts long audio in its pauses, else at its quietest places."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.errors import ConfigError

_STEP_SECONDS = 0.01
_PAUSE_STEPS = 10  # a cut lies in the middle of the quietest 100 ms
_EARLIER_COSTS_DB = (
    6.0  # what a cut at the earliest place must be quieter by than one at the latest
)
_CLEAR_DB = 15.0  # between speech and pause; less is no clear pause
_CLEAR_STEPS = 20  # 200 ms of levels over 100 ms: a pause of 0.3 s
_QUIET_SHARE = 0.35  # of the way from pause to speech, in dB
_FLOOR = 1e-10  # power; -100 dB below full scale


def split_at_silence(
    waveform: Float[Tensor, " samples"],
    sample_rate: int,
    *,
    max_seconds: float = 20.0,
    min_seconds: float = 5.0,
) -> list[tuple[int, int]]:
    """Cuts long audio into chunks that can be recognised one by one.

    Each chunk but the last ends in the middle of its first clear pause after ``min_seconds``: 0.3 s
    or more, well below the level of the speech around it. Where there is none, it ends in the middle
    of the quietest 100 ms of its second half, as late as possible. All chunks are at most
    ``max_seconds`` long and at least ``min_seconds``, unless the audio is shorter than that. Silence
    goes along with the chunk it is in: nothing is left out.

    Args:
        waveform: The audio, on the scale of [-1, 1].
        sample_rate: Hz.
        max_seconds: Longest chunk, in seconds; audio up to this length is one chunk.
        min_seconds: Shortest chunk, in seconds; at most half of ``max_seconds``.

    Returns:
        First sample of each chunk and the one after its last: they follow one another without gap
        or overlap, from 0 to the length of the waveform. No chunks when there is no sample.

    Raises:
        ConfigError: ``min_seconds`` is not between 0 and half of ``max_seconds``.
    """
    if not 0 < min_seconds <= max_seconds / 2:
        raise ConfigError(
            f"min_seconds {min_seconds:g}, max_seconds {max_seconds:g}; expected min_seconds above "
            "0 and at most half of max_seconds. Correct them."
        )
    samples = len(waveform)
    if samples == 0:
        return []
    step = max(1, round(_STEP_SECONDS * sample_rate))
    longest = max(1, math.floor(max_seconds * sample_rate / step))  # in steps from here on
    shortest = min(math.ceil(min_seconds * sample_rate / step), longest // 2)
    level = _levels(waveform, step) if samples > longest * step else torch.empty(0)
    chunks = []
    start = 0
    while samples - start > longest * step:
        begin = start // step
        last = min(begin + longest, samples // step - shortest)
        place = _first_pause(level, begin, begin + max(shortest, 1), last)
        if place is None:
            place = _quietest(level, min(begin + max(shortest, longest // 2, 1), last), last)
        place *= step
        chunks.append((start, place))
        start = place
    return [*chunks, (start, samples)]


def _levels(waveform: Tensor, step: int) -> Tensor:
    """Level in dB of the 100 ms around every multiple of ``step`` samples."""
    power = torch.nn.functional.pad(waveform, (0, -len(waveform) % step))
    power = power.reshape(-1, step).square().mean(dim=1)
    half = _PAUSE_STEPS // 2
    around = torch.nn.functional.avg_pool1d(
        power[None, None], _PAUSE_STEPS, stride=1, padding=half, count_include_pad=False
    )
    return 10 * around[0, 0].clamp(min=_FLOOR).log10()


def _first_pause(level: Tensor, begin: int, first: int, last: int) -> int | None:
    """The middle of the first clear pause between two steps, both included; None for none."""
    around = level[begin : last + 1]
    soft, loud = torch.quantile(around, torch.tensor([0.05, 0.9])).tolist()
    if loud - soft < _CLEAR_DB:
        return None
    quiet = level[first : last + 1] < soft + _QUIET_SHARE * (loud - soft)
    edges = torch.nn.functional.pad(quiet.to(torch.int8), (1, 1)).diff()
    begins, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    long = (ends - begins >= _CLEAR_STEPS).nonzero()[:, 0]
    if not len(long):
        return None
    run = int(long[0])
    return first + (int(begins[run]) + int(ends[run])) // 2


def _quietest(level: Tensor, first: int, last: int) -> int:
    """The step from ``first`` to ``last``, both included, where a cut does least harm."""
    window = level[first : last + 1]
    cost = window + torch.linspace(_EARLIER_COSTS_DB, 0.0, len(window))
    return first + int(cost.argmin())

"""Rounds seconds to samples, frames and clock times, halves up, and turns samples into seconds.

Seconds are floats. Samples and frames are integers, rounded half up, so that a time halfway between
two of them goes to the later one on every platform (Python's own ``round`` goes to the even one).
Where the frames of a model lie in its audio is told by ``inference/alignment/frame_times.py``.
"""

import math
from typing import Literal


def seconds_to_samples(seconds: float, sample_rate: int) -> int:
    """The sample nearest to a time, halves up.

    Args:
        seconds: Time from the start, in seconds; may be negative.
        sample_rate: Samples per second.
    """
    return _round_half_up(seconds * sample_rate)


def samples_to_seconds(samples: int, sample_rate: int) -> float:
    """The time of a sample, in seconds from sample 0."""
    return samples / sample_rate


def seconds_to_frames(seconds: float, hop_length: int, sample_rate: int) -> int:
    """The frame nearest to a time in seconds, halves up."""
    return _round_half_up(seconds * sample_rate / hop_length)


def nearest_edge(seconds: float, frame_shift: float) -> int:
    """The edge between frames nearest to a time, halves up; frames are ``frame_shift`` s long."""
    return _round_half_up(seconds / frame_shift)


def count_frames(seconds: float, frame_shift: float) -> int:
    """Frames of log-mel features of audio of a length in seconds: 1 + samples // hop.

    One stands at sample 0 and one at every hop after it, as in librosa and torch (``center``).
    """
    return 1 + math.floor(max(0.0, seconds) / frame_shift + 1e-6)


def format_clock(seconds: float, *, decimal: Literal[",", "."] = ".") -> str:
    """A time as ``HH:MM:SS.mmm``, rounded to the nearest millisecond, halves up.

    Args:
        seconds: Time in seconds; a negative time is shown as zero. Hours may exceed two digits.
        decimal: What stands before the milliseconds: SRT wants a comma, WebVTT a point.
    """
    milliseconds = max(0, _round_half_up(seconds * 1000))
    minutes, milliseconds = divmod(milliseconds, 60_000)
    whole_seconds, milliseconds = divmod(milliseconds, 1000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{whole_seconds:02d}{decimal}{milliseconds:03d}"


def _round_half_up(value: float) -> int:
    """Nearest integer, halves up; what lies a binary hair below a half counts as the half."""
    return math.floor(value + 0.5 + 1e-9)

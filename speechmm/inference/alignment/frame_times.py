"""Turns frames into seconds and samples: the one place that knows where a frame begins and ends.

Frames are centred: frame ``i`` covers half a hop on either side of ``i`` hops, so the boundary
before it lies half a hop earlier. The first frame begins and the last one ends with the audio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechmm.audio.log_mel import LogMelConfig


@dataclass(frozen=True, kw_only=True)
class FrameGrid:
    """Where the frames of a model lie in the audio: those of the features, or of the encoder."""

    hop: int
    """Samples from frame to frame."""
    sample_rate: int
    """Hz."""

    @classmethod
    def of(cls, features: LogMelConfig, subsampling: int = 1) -> FrameGrid:
        """The grid of the feature frames, or of every so many of them: the encoder's."""
        return cls(hop=subsampling * features.hop_length, sample_rate=features.sample_rate)

    def frames(self, seconds: float) -> float:
        """How many frames long a time is, with its fraction."""
        return seconds * self.sample_rate / self.hop

    def centres(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The seconds at which frames have their centres."""
        seconds: npt.NDArray[np.float64] = frames * self.hop / self.sample_rate
        return seconds

    def sample(self, boundary: int) -> int:
        """The sample before which frame ``boundary`` begins; below 0 for the first frame."""
        return boundary * self.hop - self.hop // 2

    def clock(self, frames: int, duration: float, *, first_sample: int = 0) -> FrameClock:
        """The clock of an utterance.

        Args:
            frames: Its frames, counted from the start of the audio it may be a part of.
            duration: Its seconds.
            first_sample: Where in that audio it begins.
        """
        return FrameClock(
            hop=self.hop / self.sample_rate,
            frames=frames,
            duration=duration,
            offset=first_sample / self.hop,
        )


@dataclass(frozen=True, kw_only=True)
class FrameClock:
    """Turns the frame boundaries of one utterance into seconds from its start."""

    hop: float
    """Seconds from frame to frame."""
    frames: int
    """Frames of the utterance."""
    duration: float
    """Seconds of the utterance."""
    offset: float = 0.0
    """Where the utterance begins, in frames."""

    def seconds(self, boundary: float | int) -> float:
        """The time before frame ``boundary``, or between frames; ``frames`` is the end of the audio."""
        if boundary >= self.frames:
            return self.duration
        return min(self.duration, max(0.0, (boundary - 0.5 - self.offset) * self.hop))

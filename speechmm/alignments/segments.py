"""Defines a labelled span of time, and the alignment of an utterance made of such spans."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from speechmm.errors import AlignmentError

TIME_DECIMALS = 4
"""Times are written to a tenth of a millisecond, below one sample of 8 kHz audio."""

CONFIDENCE_DECIMALS = 4
_RANGES = ("start_range", "end_range")
LONGEST_SECONDS = 1e9
"""30 years: no recording is longer, and times can still be rounded to a microsecond."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One unit (a phone, a character, a word) and when it was said."""

    label: str
    """What was said, as the given text has it."""
    start: float
    """Seconds from the start of the audio."""
    end: float
    """Seconds from the start of the audio, not before ``start``."""
    confidence: float | None = None
    """How sure the model is, in [0, 1]; None where nothing says."""
    start_range: tuple[float, float] | None = field(default=None, compare=False, repr=False)
    """Seconds between which the start lies in eight of ten cases; None where nothing says."""
    end_range: tuple[float, float] | None = field(default=None, compare=False, repr=False)
    """Seconds between which the end lies in eight of ten cases; None where nothing says."""
    glued: bool = field(default=False, compare=False, repr=False)
    """Written right after the segment before it, without a space; not kept in files."""
    letter_starts: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """Seconds from ``start`` at which the letters begin, where it may have to be cut between them."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start

    def later(self, seconds: float) -> "Segment":
        """The same segment in audio that begins so much earlier."""
        return replace(
            self,
            start=self.start + seconds,
            end=self.end + seconds,
            start_range=_moved(self.start_range, seconds),
            end_range=_moved(self.end_range, seconds),
        )

    def to_dict(self) -> dict[str, Any]:
        """This segment as a row of plain values, times to a tenth of a millisecond."""
        row: dict[str, Any] = {
            "label": self.label,
            "start": round(self.start, TIME_DECIMALS),
            "end": round(self.end, TIME_DECIMALS),
            "confidence": _rounded(self.confidence),
        }
        for name in _RANGES:
            if (seconds := getattr(self, name)) is not None:
                row[name] = [round(one, TIME_DECIMALS) for one in seconds]
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Segment":
        """The reverse of :meth:`to_dict`.

        Raises:
            AlignmentError: A key is missing, a time is no possible number, or the end comes before
                the start.
        """
        try:
            confidence = row.get("confidence")
            segment = cls(
                label=str(row["label"]),
                start=float(row["start"]),
                end=float(row["end"]),
                confidence=None if confidence is None else float(confidence),
                start_range=_range(row.get("start_range")),
                end_range=_range(row.get("end_range")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AlignmentError(
                f"segment {row!r}: {type(error).__name__} {error}; expected an object with "
                '"label", "start" and "end" (seconds). Write the file again with "speechmm align".'
            ) from error
        if not math.isfinite(segment.confidence or 0.0):
            raise AlignmentError(
                f"segment {segment.label!r}: its confidence is {segment.confidence}; expected a number. "
                "Correct it."
            )
        if not -LONGEST_SECONDS < segment.start <= segment.end < LONGEST_SECONDS:
            raise AlignmentError(
                f"segment {segment.label!r}: it ends at {segment.end} s and starts at "
                f"{segment.start} s; expected start <= end. Correct its times."
            )
        return segment


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """When each unit of one utterance was said."""

    id: str
    audio: str = ""
    """Path of the audio file, empty when there is none."""
    start: float = 0.0
    """Where the utterance begins in that file, seconds; all other times count from there."""
    duration: float
    """Length of the utterance in seconds."""
    channels: tuple[int, ...] = ()
    """Those of the audio file that are averaged, counted from 0; empty means all."""
    units: dict[str, list[Segment]] = field(default_factory=dict)
    """Segments by unit ("word", "char", "phone", ...), each list in the order of time."""
    confidence: float | None = None
    """How sure the model is of the whole, in [0, 1]; None where nothing says."""
    flags: tuple[str, ...] = ()
    """What may be wrong with it, such as "low_confidence"; empty when nothing is."""

    def __post_init__(self) -> None:
        """Refuses times that no recording has.

        Raises:
            AlignmentError: Start or duration is not a number, or too large a one.
        """
        if not max(abs(self.start), abs(self.duration)) < LONGEST_SECONDS:
            raise AlignmentError(
                f"alignment {self.id!r}: {self.duration} s from {self.start} s; expected times of a "
                "recording. Correct its times."
            )

    @property
    def words(self) -> list[Segment]:
        """The segments of the unit "word"; empty when there are none."""
        return self.units.get("word", [])

    @property
    def spoken(self) -> list[Segment]:
        """The words, or where there are none the segments of the first unit, for people to read."""
        return self.units.get("word") or next(iter(self.units.values()), [])

    def to_dict(self) -> dict[str, Any]:
        """The alignment row of the interface, in plain values."""
        return {
            "id": self.id,
            "audio": self.audio,
            "start": round(self.start, TIME_DECIMALS),
            "duration": round(self.duration, TIME_DECIMALS),
            "units": {
                unit: [segment.to_dict() for segment in segments]
                for unit, segments in self.units.items()
            },
            "confidence": _rounded(self.confidence),
            "flags": list(self.flags),
            **({"channels": list(self.channels)} if self.channels else {}),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Alignment":
        """The reverse of :meth:`to_dict`.

        Raises:
            AlignmentError: The row is not an alignment row.
        """
        try:
            confidence = row.get("confidence")
            return cls(
                id=str(row["id"]),
                audio=str(row.get("audio") or ""),
                start=float(row.get("start") or 0.0),
                duration=float(row["duration"]),
                units={
                    str(unit): [Segment.from_dict(segment) for segment in segments]
                    for unit, segments in row["units"].items()
                },
                confidence=None if confidence is None else float(confidence),
                flags=tuple(str(flag) for flag in row.get("flags") or ()),
                channels=tuple(int(channel) for channel in row.get("channels") or ()),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AlignmentError(
                f"alignment row: {type(error).__name__} {error}; expected an object with "
                '"id", "duration" and "units". Write the file again with "speechmm align".'
            ) from error


def _moved(pair: tuple[float, float] | None, seconds: float) -> tuple[float, float] | None:
    return None if pair is None else (pair[0] + seconds, pair[1] + seconds)


def _range(pair: Any) -> tuple[float, float] | None:
    """Two times from JSON, or None; a ``ValueError`` or ``TypeError`` where it is neither."""
    if pair is None:
        return None
    first, last = map(float, pair)
    if not -LONGEST_SECONDS < first <= last < LONGEST_SECONDS:
        raise ValueError(f"range {pair}: expected two times, the first one not later")
    return first, last


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, CONFIDENCE_DECIMALS)

"""Reads and writes NIST's CTM: a line for each word with its start and duration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from speechmm.alignments.ids import escaped_id, unescaped_id
from speechmm.alignments.segments import Alignment, Segment
from speechmm.errors import AlignmentError
from speechmm.files.text import all_lines

_DECIMALS = 3
_NUMBER = r"-?\d*\.?\d+"
_UNKNOWN = ("NA", "-", "N/A", "NAN", "NULL")
"""What stands for a confidence that is not known, in capitals."""
_CTM_LINE = re.compile(
    rf"\S+\s+\S+\s+{_NUMBER}\s+{_NUMBER}\s+\S+(\s+({_NUMBER}|NA|N/A|-|nan|null)(\s+\S+){{0,2}})?\s*",
    re.IGNORECASE,
)
"""After the confidence NIST has a type and a speaker."""


def ctm_lines(alignment: Alignment) -> Iterator[str]:
    """A line for each segment of the first unit: id, channel, start, duration, label, confidence.

    Segments without a label (silence) are left out; white space in labels becomes "_", ids are
    escaped.
    Starts and ends are rounded to a millisecond, so that segments which touch still do.
    """
    name = escaped_id(alignment.id)
    for segment in next(iter(alignment.units.values()), []):
        label = "_".join(segment.label.split())
        if not label:
            continue
        start = round(segment.start, _DECIMALS)
        duration = round(segment.end, _DECIMALS) - start
        line = f"{name} 1 {start:.{_DECIMALS}f} {duration:.{_DECIMALS}f} {label}"
        yield line + ("\n" if segment.confidence is None else f" {segment.confidence:.4f}\n")


def is_ctm_line(line: str) -> bool:
    """Whether a line of an unknown file looks like one of CTM."""
    return _CTM_LINE.fullmatch(line) is not None


def read_ctm(path: Path, *, unit: str) -> list[Alignment]:
    """The segments of a CTM file, as one unit; the duration is the end of the last segment.

    Utterances come in the order of their first line, segments in the order of time. Where one id
    has several channels, the channel is added to the id.

    Raises:
        AlignmentError: A line is not a CTM line; it is named.
    """
    rows: dict[tuple[str, str], list[Segment]] = {}
    for number, line in enumerate(all_lines(path, error=AlignmentError), start=1):
        if line.strip() and not line.startswith(";;"):
            name, channel, segment = _parsed(line, f"{path}:{number}")
            rows.setdefault((name, channel), []).append(segment)
    channels = Counter(name for name, _ in rows)
    return [
        Alignment(
            id=name if channels[name] == 1 else f"{name}-{channel}",
            duration=max(segment.end for segment in segments),
            units={unit: sorted(segments, key=lambda segment: segment.start)},
        )
        for (name, channel), segments in rows.items()
    ]


def _parsed(line: str, where: str) -> tuple[str, str, Segment]:
    """Id, channel and segment of a line."""
    try:
        name, channel, start, duration, label, *more = line.split()
        begin = float(start)
        end = begin + float(duration)
        confidence = float(more[0]) if more and more[0].upper() not in _UNKNOWN else None
    except ValueError as error:
        raise AlignmentError(
            f"{where}: {line.strip()[:60]!r} is not a line of ctm; expected id, channel, "
            "start, duration (seconds), label and perhaps a confidence. Correct the line."
        ) from error
    row = {"label": label, "start": begin, "end": end, "confidence": confidence}
    try:
        return unescaped_id(name), channel, Segment.from_dict(row)
    except AlignmentError as error:
        raise AlignmentError(f"{where}: {error}") from error

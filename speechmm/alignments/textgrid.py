"""Writes Praat TextGrids: a tier for every unit."""

from collections.abc import Iterator, Mapping, Sequence

from speechmm.alignments.segments import Alignment, Segment
from speechmm.errors import AlignmentError

_DECIMALS = 6
_TOUCHING = 1e-6  # seconds: what is less apart than this is no gap and no overlap


def format_textgrid(alignment: Alignment, *, ranges: bool = False) -> str:
    """A TextGrid in Praat's long text format, intervals without a label in the gaps.

    Segments of no length (a dash between words) are left out: Praat has no such intervals.

    Args:
        alignment: A tier for each of its units.
        ranges: Beside the tier of each unit a tier of points, one at every edge, which says between
            which times the edge lies in eight of ten cases.

    Raises:
        AlignmentError: Segments of one unit overlap, or begin before 0.
    """
    ends = [segment.end for segments in alignment.units.values() for segment in segments]
    end = _number(max([alignment.duration, *ends]))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end}",
        "tiers? <exists>",
        f"size = {(1 + ranges) * len(alignment.units)}",
        "item []:",
    ]
    for number, (unit, segments) in enumerate(alignment.units.items(), start=1):
        intervals = list(_intervals(alignment, unit, segments, float(end)))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(unit)}",
            "        xmin = 0",
            f"        xmax = {end}",
            f"        intervals: size = {len(intervals)}",
        ]
        for place, (start, stop, label) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {_number(start)}",
                f"            xmax = {_number(stop)}",
                f"            text = {_quoted(label)}",
            ]
    for number, (unit, segments) in enumerate(alignment.units.items() if ranges else (), start=1):
        lines += _points(len(alignment.units) + number, f"{unit} edges", _edges(segments), end)
    return "\n".join(lines) + "\n"


def _edges(segments: Sequence[Segment]) -> dict[float, tuple[float, float]]:
    """The range of every edge that has one, by its time; of one that two units share, both ranges."""
    found: dict[float, tuple[float, float]] = {}
    for segment in segments:
        for time, pair in (
            (segment.start, segment.start_range),
            (segment.end, segment.end_range),
        ):
            if pair is not None:
                at = round(time, _DECIMALS)
                first, last = found.get(at, pair)
                found[at] = min(first, pair[0]), max(last, pair[1])
    return dict(sorted(found.items()))


def _points(
    number: int, name: str, edges: Mapping[float, tuple[float, float]], end: str
) -> list[str]:
    """A tier of points."""
    lines = [
        f"    item [{number}]:",
        '        class = "TextTier"',
        f"        name = {_quoted(name)}",
        "        xmin = 0",
        f"        xmax = {end}",
        f"        points: size = {len(edges)}",
    ]
    for place, (time, (first, last)) in enumerate(edges.items(), start=1):
        lines += [
            f"        points [{place}]:",
            f"            number = {_number(time)}",
            f"            mark = {_quoted(f'{first:.3f}-{last:.3f}')}",
        ]
    return lines


def _intervals(
    alignment: Alignment, unit: str, segments: Sequence[Segment], end: float
) -> Iterator[tuple[float, float, str]]:
    """Intervals that cover 0 to ``end`` without a gap."""
    position = 0.0
    for segment in segments:
        start, stop = round(segment.start, _DECIMALS), round(segment.end, _DECIMALS)
        if 0 <= stop - start <= _TOUCHING:
            continue
        if start < position - _TOUCHING or stop <= max(start, position):
            raise AlignmentError(
                f"{alignment.id}: the {unit} {segment.label!r} from {segment.start:g} to "
                f"{segment.end:g} s begins before {position:g} s; expected "
                "segments one after another in a TextGrid. Choose another format."
            )
        if start > position + _TOUCHING:
            yield position, start, ""
            position = start
        yield position, stop, segment.label
        position = stop
    if position < end - _TOUCHING or not segments:
        yield position, end, ""


def _number(seconds: float) -> str:
    return f"{round(seconds, _DECIMALS):.{_DECIMALS}f}".rstrip("0").rstrip(".") or "0"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'

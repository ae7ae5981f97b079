"""Alignments as lines of text: the toolkit's own jsonl, and NIST's CTM."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from speechmm.alignments.segments import Alignment, Segment
from speechmm.errors import AlignmentError
from speechmm.files.text import read_lines

_CTM_DECIMALS = 3


def jsonl_line(alignment: Alignment) -> str:
    """The alignment row of the interface, with its line end.

    Letters stay as they are, unless the name of a file is not UTF-8: then the row is in ASCII.
    """
    row = alignment.to_dict()
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(row) + "\n"
    return line


def ctm_name(id: str) -> str:
    """An id as CTM can hold it: white space becomes "_"."""
    return "_".join(id.split()) or "_"


def ctm_lines(alignment: Alignment) -> Iterator[str]:
    """A line for each segment of the first unit: id, channel, start, duration, label, confidence.

    Segments without a label (silence) are left out; white space in a label becomes "_". Starts and
    ends are rounded to a millisecond, so that segments which touch still do.
    """
    name = ctm_name(alignment.id)
    for segment in next(iter(alignment.units.values()), []):
        label = "_".join(segment.label.split())
        if not label:
            continue
        start = round(segment.start, _CTM_DECIMALS)
        duration = round(segment.end, _CTM_DECIMALS) - start
        line = f"{name} 1 {start:.{_CTM_DECIMALS}f} {duration:.{_CTM_DECIMALS}f} {label}"
        yield line + ("\n" if segment.confidence is None else f" {segment.confidence:.4f}\n")


def read_jsonl(path: Path) -> list[Alignment]:
    """Alignment rows, or transcript rows with their words, gzipped or not.

    Raises:
        AlignmentError: A line is not such a row, or an id comes twice; the line is named.
    """
    found: dict[str, Alignment] = {}
    for number, line in _lines(path):
        try:
            row = json.loads(line)
            alignment = Alignment.from_dict(_from_transcript(row) if "words" in row else row)
        except (AlignmentError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise AlignmentError(f"{path}:{number}: {error}") from error
        if alignment.id in found:
            raise AlignmentError(
                f"{path}:{number}: the id {alignment.id!r} comes a second time; expected every id "
                "once. Remove one of the rows."
            )
        found[alignment.id] = alignment
    return list(found.values())


def read_ctm(path: Path, *, unit: str) -> list[Alignment]:
    """The segments of a CTM file, as one unit; the duration is the end of the last segment.

    Utterances come in the order of their first line, segments in the order of time. Where one id
    has several channels, the channel is added to the id.

    Raises:
        AlignmentError: A line is not a CTM line; it is named.
    """
    rows: dict[tuple[str, str], list[Segment]] = {}
    for number, line in _lines(path):
        if line.startswith(";;"):
            continue
        try:
            name, channel, start, duration, label, *more = line.split()
            begin = float(start)
            segment = {"label": label, "start": begin, "end": begin + float(duration)}
            confidence = float(more[0]) if more and more[0] != "NA" else None
        except ValueError as error:
            raise AlignmentError(
                f"{path}:{number}: {line[:60]!r} is not a line of ctm; expected id, channel, "
                "start, duration (seconds), label and perhaps a confidence. Correct the line."
            ) from error
        try:
            found = Segment.from_dict({**segment, "confidence": confidence})
        except AlignmentError as error:
            raise AlignmentError(f"{path}:{number}: {error}") from error
        rows.setdefault((name, channel), []).append(found)
    names = [name for name, _ in rows]
    return [
        Alignment(
            id=name if names.count(name) == 1 else f"{name}-{channel}",
            duration=max(segment.end for segment in segments),
            units={unit: sorted(segments, key=lambda segment: segment.start)},
        )
        for (name, channel), segments in rows.items()
    ]


def _from_transcript(row: Mapping[str, Any]) -> dict[str, Any]:
    """A transcript row as an alignment row: times from the start of the utterance."""
    begin = float(row.get("start") or 0.0)
    words = [
        {
            "label": word["word"],
            "start": float(word["start"]) - begin,
            "end": float(word["end"]) - begin,
            "confidence": word.get("confidence"),
        }
        for word in row["words"]
    ]
    return {**row, "units": {"word": words}}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers; gunzipped where needed."""
    return ((number, line.strip()) for number, line in read_lines(path, error=AlignmentError))

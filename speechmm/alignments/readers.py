"""Alignments from the files other programs write: JSON lines, CTM, TextGrids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from speechmm.alignments.segments import Alignment, Segment
from speechmm.errors import AlignmentError


def read_alignments(path: Path) -> list[Alignment]:
    """Reads ``jsonl``, ``ctm``, one TextGrid or a folder of them (id = stem of the file).

    Raises:
        AlignmentError: The file is missing, empty, or not of this kind.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".textgrid")
        found = [read_textgrid(file) for file in files]
    elif not path.is_file():
        raise AlignmentError(f"{path}: not found; expected alignments. Check the name.")
    elif path.suffix.lower() == ".textgrid":
        found = [read_textgrid(path)]
    elif path.suffix == ".ctm":
        found = list(_ctm(path))
    else:
        found = list(_json_rows(path))
    if not found:
        raise AlignmentError(f"{path}: no alignment in it; expected at least one. Check the file.")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.strip()
    except UnicodeDecodeError as error:
        raise AlignmentError(
            f"{path}: byte {error.start} is not UTF-8; expected UTF-8 text. Convert the file."
        ) from error


def _json_rows(path: Path) -> Iterator[Alignment]:
    for number, line in _lines(path):
        try:
            yield Alignment.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, AlignmentError) as error:
            raise AlignmentError(
                f"{path}:{number}: no alignment row ({error}); expected JSON with id, duration "
                'and units. Write it with "speechmm align --format jsonl".'
            ) from error


def _ctm(path: Path) -> Iterator[Alignment]:
    rows: dict[str, list[Segment]] = {}
    for number, line in _lines(path):
        if line.startswith(";;"):
            continue
        fields = line.split()
        try:
            id, _, start, duration, label = fields[:5]
            confidence = float(fields[5]) if len(fields) > 5 else None
            segment = Segment(
                label=label,
                start=float(start),
                end=float(start) + float(duration),
                confidence=confidence,
            )
        except ValueError as error:
            raise AlignmentError(
                f'{path}:{number}: found {line[:60]!r}; expected "id channel start duration '
                'word [confidence]" in seconds. Correct the line.'
            ) from error
        rows.setdefault(id, []).append(segment)
    for id, segments in rows.items():
        segments.sort(key=lambda one: one.start)
        yield Alignment(id=id, duration=segments[-1].end, units={"word": segments})


def read_textgrid(path: Path) -> Alignment:
    """Reads the interval tiers of a TextGrid; a tier named "words" is the unit "word".

    Raises:
        AlignmentError: The file cannot be read as a TextGrid.
    """
    from praatio import textgrid
    from praatio.data_classes.interval_tier import IntervalTier

    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    except Exception as error:
        raise AlignmentError(
            f"{path}: not readable as a TextGrid ({type(error).__name__}: {error}); expected one "
            "that Praat opens. Save it again with Praat."
        ) from error
    units = {}
    for tier in grid.tiers:
        if isinstance(tier, IntervalTier):
            name = {"words": "word", "phones": "phone", "chars": "char"}.get(tier.name, tier.name)
            units[name] = [
                Segment(label=row.label, start=float(row.start), end=float(row.end))
                for row in tier.entries
            ]
    return Alignment(id=path.stem, duration=float(grid.maxTimestamp), units=units)

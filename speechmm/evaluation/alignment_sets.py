"""Alignments by utterance from whatever holds them, and which of two sets belong together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from speechmm.alignments import Alignment, Segment, read_alignments
from speechmm.errors import ManifestError
from speechmm.writing import safe_name


def read_alignment_set(path: Path) -> dict[str, Alignment]:
    """Alignments by id.

    Reads what `read_alignments` does, cuts manifests with alignments, and transcripts with words.

    Raises:
        AlignmentError: The file is missing or broken.
        ManifestError: A manifest or transcripts without any alignment, or an id is there twice.
    """
    kind = _kind(path)
    if kind == "cuts":
        rows = _from_cuts(path)
    elif kind == "transcripts":
        rows = _from_transcripts(path)
    else:
        rows = iter(read_alignments(path))
    found: dict[str, Alignment] = {}
    for row in rows:
        if row.id in found:
            raise ManifestError(
                f'{path}: id "{row.id}" is there twice; expected one alignment an id. Remove one.'
            )
        found[row.id] = row
    if not found:
        raise ManifestError(
            f"{path}: no utterance has an alignment; expected start and end of its words. "
            "Choose a file that has them."
        )
    return found


def match_ids(
    hypotheses: dict[str, Alignment], references: dict[str, Alignment]
) -> dict[str, Alignment]:
    """The hypotheses under the ids of the references.

    Files cannot always hold an id as it is: TextGrids are named after it, a CTM has no spaces in it.
    Where the id itself is not found, these forms of it are looked for.
    """
    known: dict[str, str] = {}
    for form in _FORMS:
        for id in references:
            known.setdefault(form(id), id)
    named = {known.get(id, id): id for id in hypotheses}
    return {new: hypotheses[id] for new, id in named.items()}


_FORMS: tuple[Callable[[str], str], ...] = (str, safe_name, lambda id: "_".join(id.split()))


def _kind(path: Path) -> str:
    if path.name.endswith(".gz"):
        return "cuts"
    if path.suffix != ".jsonl" or not path.is_file():
        return "alignments"
    try:
        with path.open(encoding="utf-8-sig") as stream:
            row = json.loads(next((line for line in stream if line.strip()), ""))
    except (OSError, ValueError):
        return "alignments"  # whose reader says what is wrong with it
    if not isinstance(row, dict) or "units" in row:
        return "alignments"
    if "supervisions" in row:
        return "cuts"
    return "transcripts" if "words" in row else "alignments"


def _from_cuts(path: Path) -> Iterator[Alignment]:
    from speechmm.data.manifest import read_cuts, reference_alignment

    for cut in read_cuts(path):
        found = reference_alignment(cut)
        if found is not None:
            yield found


def _from_transcripts(path: Path) -> Iterator[Alignment]:
    """Words of transcript rows, in seconds from the start of the utterance."""
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row: Any = json.loads(line)
                start = float(row.get("start") or 0)
                yield Alignment(
                    id=str(row["id"]),
                    audio=str(row.get("audio") or ""),
                    duration=float(row["duration"]),
                    units={"word": list(_words(row["words"], start))},
                )
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ManifestError(
                    f"{path}:{number}: no transcript row with words ({type(error).__name__}: "
                    f'{error}); expected id, duration and words. Write it with "speechmm transcribe '
                    '--format jsonl".'
                ) from error


def _words(rows: Iterable[Any], start: float) -> Iterator[Segment]:
    for row in rows:
        yield Segment(
            label=str(row["word"]), start=float(row["start"]) - start, end=float(row["end"]) - start
        )

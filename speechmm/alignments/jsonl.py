"""Reads and writes rows of JSON: alignments and transcripts in the toolkit's own jsonl."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechmm.alignments.segments import Alignment
from speechmm.errors import AlignmentError
from speechmm.files.json_text import parse_json
from speechmm.files.text import all_lines


def jsonl_line(row: Mapping[str, Any]) -> str:
    """A row of the interface, with its line end.

    Letters stay as they are, unless the name of a file is not UTF-8: then the row is in ASCII.
    """
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(row) + "\n"
    return line


def read_jsonl(path: Path) -> list[Alignment]:
    """Alignment rows, or transcript rows with their words, gzipped or not.

    Raises:
        AlignmentError: A line is not such a row, or an id comes twice; the line is named.
    """
    found: dict[str, Alignment] = {}
    for number, line in enumerate(all_lines(path, error=AlignmentError), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
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

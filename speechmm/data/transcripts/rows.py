"""Reads the utterances that a corpus's transcript tables describe."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

from speechmm.data.ids import make_ids
from speechmm.data.skips import SkipReport
from speechmm.data.splits import SPLIT_NAMES
from speechmm.data.transcripts.audio_lookup import AudioLookup
from speechmm.data.transcripts.columns import NamedColumns
from speechmm.data.transcripts.find import split_of_folders, split_of_table
from speechmm.data.transcripts.tables import Row, read_table
from speechmm.data.transcripts.translations import read_translations
from speechmm.data.utterances import Utterance

logger = logging.getLogger(__name__)


def read_tables(
    tables: list[Path],
    lookup: AudioLookup,
    report: SkipReport,
    named: NamedColumns = NamedColumns(),  # noqa: B008 (frozen)
) -> dict[str, list[Utterance]]:
    """Utterances by split; the split is "" where no table says.

    The split comes from a column, the table's name or the name of its folder. Recordings no table
    names are counted in the log.

    Raises:
        ManifestError: A table cannot be read.
        ConfigError: It lacks what a user says of its columns.
    """
    found: list[tuple[str, Row, Path]] = []
    for table in tables:
        given = ""
        if len(tables) > 1:
            given = split_of_table(table) or split_of_folders(table, lookup.root)
        found += _find_audio(table, given, lookup, report, named)
    ids = make_ids({*lookup.files, *(path for _, _, path in found if path.is_file())})
    translations = read_translations([row for _, row, _ in found], named, report)
    lines = Counter(row.values.get("id", "") for _, row, _ in found)
    splits: dict[str, list[Utterance]] = {}
    for (split, row, path), translated in zip(found, translations, strict=True):
        if translated is None:
            continue
        repeated = lines[row.values.get("id", "")] > 1
        utterance = _to_utterance(
            row, path, ids.get(path, ""), translated, report, repeated=repeated
        )
        if utterance is not None:
            splits.setdefault(split, []).append(utterance)
    unlisted = len(set(lookup.files) - {path for _, _, path in found})
    if unlisted:
        logger.info("%d recordings are not named by the transcripts, left out", unlisted)
    if "" in splits and len(splits) > 1:
        splits["train"] = splits.get("train", []) + splits.pop("")
    return splits or {"": []}


def _find_audio(
    table: Path, given: str, lookup: AudioLookup, report: SkipReport, named: NamedColumns
) -> list[tuple[str, Row, Path]]:
    """Split, row and recording of every line that names one; a missing one is named as expected."""
    rows = read_table(table, lookup.knows, report, named.columns, lookup.in_folders)
    naming = lookup.find_naming((_audio_name(row) for row in rows), table.parent)
    found = []
    for row in rows:
        where = f"{table.name}:{row.line}"
        value = row.values.get("split", "")
        split = SPLIT_NAMES.get(value.lower(), "") if value else given
        if value and not split:
            known = ", ".join(SPLIT_NAMES)
            report.add(where, f"found the split '{value}'; expected one of {known}")
            continue
        name = _audio_name(row)
        if not name:
            report.add(where, "names no recording; expected a path or an id")
            continue
        paths = lookup.find(name, naming, table.parent, row.values.get("speaker"))
        if len(paths) > 1:
            listed = ", ".join(str(path) for path in paths[:3])
            report.add(where, f"'{name}' may be any of {len(paths)} files: {listed}")
            continue
        found.append((split, row, paths[0] if paths else _expected(name, table)))
    return found


def _audio_name(row: Row) -> str:
    return row.values.get("audio") or row.values.get("id", "")


def _expected(name: str, table: Path) -> Path:
    """Where a recording that is not there would be: what the report says was not found."""
    return table.parent / name.replace("\0", "")


def _to_utterance(
    row: Row,
    audio: Path,
    file_id: str,
    translations: dict[str, str],
    report: SkipReport,
    *,
    repeated: bool,
) -> Utterance | None:
    """What a line says; None, and reported, where its times are no numbers of seconds."""
    file_id = file_id or _audio_name(row)  # not there: reported as the table has it
    times = [row.values.get("start") or "", row.values.get("end") or ""]
    try:
        start, end = (_seconds(value) if value else None for value in times)
    except ValueError:
        item = row.values.get("id") or file_id
        report.add(item, f"line {row.line}: found the times {times}; expected seconds")
        return None
    return Utterance(
        id=_utterance_id(row, audio, file_id, start, repeated=repeated),
        audio=audio,
        text=row.values.get("text") or row.values.get("plain_text", ""),
        speaker=row.values.get("speaker") or None,
        language=row.values.get("language") or None,
        translations=translations,
        start=start or 0.0,
        duration=None if end is None else end - (start or 0.0),
    )


def _utterance_id(
    row: Row, audio: Path, file_id: str, start: float | None, *, repeated: bool
) -> str:
    """The id of a line, or that of its recording; with the start where other lines may have it, too."""
    named = row.values.get("id", "")
    is_path = "/" in named or "\\" in named or named.lower().endswith(audio.suffix.lower() or "/")
    utterance_id = file_id if not named or is_path else "_".join(named.split())
    if start is not None and (not named or repeated):
        utterance_id += f"-{round(start * 1000):07d}"
    return utterance_id


def _seconds(value: str) -> float:
    """A finite number, in milliseconds, too.

    Raises:
        ValueError: It is none.
    """
    seconds = float(value)
    if not math.isfinite(1000 * seconds):
        raise ValueError(value)
    return seconds

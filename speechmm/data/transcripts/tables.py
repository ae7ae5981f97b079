"""Reads transcript tables: comma, semicolon, tab or ``|`` between columns, header or none.

What people make with spreadsheets and scripts: a byte order mark, Windows line ends, quotes or
none, a comma in an unquoted text, more columns than needed. A row that cannot be used is reported
with its line.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from speechmm.data.skips import SkipReport
from speechmm.data.transcripts.columns import Roles, roles_from_data, roles_from_header
from speechmm.errors import ConfigError, ManifestError
from speechmm.files.text import read_lines

NamesAudio = Callable[[str], bool]

SPACE = " "  # white space after the first word, as in "utt1 the words"
_DELIMITERS: dict[str, tuple[str, ...]] = {
    ".tsv": ("\t", "|", ";", ","),
    ".csv": (",", ";", "|", "\t"),
}
_OTHER_DELIMITERS: tuple[str, ...] = ("|", "\t", ";", ",", SPACE)
_SAMPLE = 200  # lines looked at to tell the delimiter
_MAX_LINES = 20  # of one quoted field


@dataclass(frozen=True)
class Row:
    """One line of a table: what its columns say, by role ("audio", "text", "speaker", ...)."""

    line: int
    values: dict[str, str]


def read_table(
    path: Path,
    names_audio: NamesAudio,
    report: SkipReport,
    named: Mapping[str, str] | None = None,
    in_folders: Callable[[Iterable[str]], bool] | None = None,
) -> list[Row]:
    """The rows of a table.

    Args:
        path: UTF-8 text.
        names_audio: Whether a value is the name of a recording of this corpus.
        report: Where rows that cannot be read are named.
        named: Names of columns that a user gives, by their roles.
        in_folders: Whether the recordings of these names lie in several folders; not when None.

    Raises:
        ManifestError: The table is not UTF-8, is empty, or its columns cannot be told apart.
        ConfigError: It has no column of a name that is given.
    """
    lines = read_lines(path)
    if not lines:
        raise ManifestError(f"{path}: is empty; expected a line for every recording.")
    delimiter = _find_delimiter(path, [line for _, line in lines[:_SAMPLE]], names_audio)
    records = list(_split_lines(lines, delimiter, names_audio))
    first = records[0][1]
    roles = roles_from_header(path, first, has_data=any(map(names_audio, first)), named=named)
    width = len(first)
    if roles is None and named:
        raise _no_header(path, named)
    if roles is None:
        records = [(number, _join_prose(fields, delimiter)) for number, fields in records]
        fields_only = [fields for _, fields in records]
        roles, width = roles_from_data(path, fields_only, names_audio, in_folders)
    else:
        records = records[1:]
    rows = []
    for number, fields in records:
        fitted = _fit(fields, width, roles, delimiter)
        if fitted is None:
            report.add(
                f"{path.name}:{number}",
                f"found {len(fields)} columns; expected {width} in every line",
            )
            continue
        values = {
            role: fitted[column].strip() for role, column in roles.items() if column < len(fitted)
        }
        rows.append(Row(number, values))
    return rows


def has_transcript_header(path: Path) -> bool:
    """Whether the first line of a table names a column for the text and one for the recording."""
    try:
        lines = read_lines(path)
    except ManifestError:
        return False
    for delimiter in _DELIMITERS.get(path.suffix.lower(), _OTHER_DELIMITERS) if lines else ():
        try:
            if roles_from_header(path, _header(lines[0][1], delimiter), has_data=False):
                return True
        except ManifestError:  # without one of the two
            continue
    return False


def _no_header(path: Path, named: Mapping[str, str]) -> ConfigError:
    flag = next(iter(named)).replace("_", "-")
    return ConfigError(
        f"--{flag}-column: {path} has no names of columns in its first line; expected them, among them "
        "one for the text and one for the recording. Add that line."
    )


def _fit(fields: list[str], width: int, roles: Roles, delimiter: str) -> list[str] | None:
    """The fields that are needed; delimiters inside an unquoted text at the end are put back."""
    text = roles["text"]
    if len(fields) > width:
        fields = _join_prose(fields, delimiter)
    if len(fields) > width:
        if text != width - 1:
            return None
        return [*fields[:text], delimiter.join(fields[text:])]
    needed = [column for role, column in roles.items() if role in ("id", "audio", "text")]
    return fields if len(fields) > max(needed) else None


def _join_prose(fields: list[str], delimiter: str) -> list[str]:
    """Put back delimiters that are followed by a blank, where the first one is not: commas."""
    if len(fields) < 3 or fields[1].startswith(" "):
        return fields
    joined: list[str] = []
    for field in fields:
        if field.startswith(" "):
            joined[-1] += delimiter + field
        else:
            joined.append(field)
    return joined


def _find_delimiter(path: Path, lines: list[str], names_audio: NamesAudio) -> str:
    candidates = _DELIMITERS.get(path.suffix.lower(), _OTHER_DELIMITERS)
    for delimiter in candidates:
        header = _header(lines[0], delimiter)
        if len(header) > 1 and len(roles_from_header(path, header, has_data=False) or ()) > 1:
            return delimiter
    hits = {
        delimiter: sum(
            any(map(names_audio, map(_unquote, fields)))
            for line in lines
            if len(fields := _split_plain(line, delimiter)) > 1
        )
        for delimiter in candidates
    }
    best = max(candidates, key=lambda delimiter: hits[delimiter])
    if hits[best]:
        return best
    for delimiter in ("\t", "|", *candidates):
        if all(len(_split_plain(line, delimiter)) > 1 for line in lines):
            return delimiter
    raise ManifestError(
        f"{path}:1: found '{lines[0][:80]}'; expected columns with a comma, semicolon, tab or | "
        "between them, such as 'id|text'. Give a table in one of these forms."
    )


def _header(line: str, delimiter: str) -> list[str]:
    return [_unquote(name) for name in _split_plain(line, delimiter)]


def _split_plain(line: str, delimiter: str) -> list[str]:
    if delimiter == SPACE:
        return line.split(maxsplit=1)
    return line.split(delimiter)


def _split_lines(
    lines: list[tuple[int, str]], delimiter: str, names_audio: NamesAudio
) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every record."""
    first = _split_plain(lines[0][1], delimiter)
    all_quoted = all(len(name) > 1 and name.strip()[0] == name.strip()[-1] == '"' for name in first)
    if delimiter in (",", ";") or (all_quoted and delimiter != SPACE):
        yield from _split_quoted(lines, delimiter, names_audio)
        return
    for number, line in lines:
        yield number, [_unquote_doubled(value) for value in _split_plain(line, delimiter)]


def _split_quoted(
    lines: list[tuple[int, str]], delimiter: str, names_audio: NamesAudio
) -> Iterator[tuple[int, list[str]]]:
    """Records quoted as spreadsheets do; a quote that is never closed is a sign like others."""
    at = 0
    while at < len(lines):
        number, line = lines[at]
        fields, used = line.split(delimiter), 1
        last = at if '"' not in line else min(at + _MAX_LINES, len(lines))
        for end in range(at + 1, last + 1):
            if end > at + 1 and any(map(names_audio, _split_plain(lines[end - 1][1], delimiter))):
                break  # the next record begins
            text = "\n".join(part for _, part in lines[at:end])
            try:
                fields = next(
                    csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True)
                )
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    continue
                break
            used = end - at
            break
        yield number, fields
        at += used


def _unquote(value: str) -> str:
    return value.strip().strip('"')


def _unquote_doubled(value: str) -> str:
    """A field quoted because of the quotes in it, as tab-separated files of some programs have."""
    inner = value.strip()[1:-1]
    quoted = len(value.strip()) > 1 and value.strip()[0] == value.strip()[-1] == '"'
    if quoted and '""' in inner and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return value

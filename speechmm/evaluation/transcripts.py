"""Reads texts by utterance from whatever recognisers and corpora write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechmm.errors import ManifestError

_TRN = re.compile(r"^(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)\s*$")


@dataclass(frozen=True)
class Text:
    """One utterance's text, and what else its file says of it."""

    text: str
    speaker: str = ""
    audio: str = ""
    start: float = 0.0
    duration: float = 0.0
    confidence: float | None = None


@dataclass(frozen=True)
class Texts:
    """The texts of a file; ``ordered`` when its lines have no ids and count by position."""

    by_id: dict[str, Text]
    ordered: bool


def read_texts(path: Path) -> Texts:
    """Reads a cuts manifest, ``jsonl``, ``trn``, Kaldi ``text`` or plain lines.

    The suffix decides (``.jsonl``, ``.jsonl.gz``, ``.trn``, ``.txt`` for plain lines, a file
    named ``text`` or ending in ``.text`` for Kaldi's).

    Raises:
        ManifestError: the file is missing or broken, or an id is there twice.
    """
    if not path.is_file():
        raise ManifestError(
            f"{path}: not found; expected a file of texts. Check the name of the file."
        )
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        rows, ordered = _json_rows(path), False
    elif path.suffix == ".trn":
        rows, ordered = _trn_rows(path), False
    elif path.name == "text" or path.suffix == ".text":
        rows, ordered = _kaldi_rows(path), False
    else:
        rows, ordered = _plain_rows(path), True
    found: dict[str, Text] = {}
    for id, text in rows:
        if id in found:
            raise ManifestError(
                f'{path}: id "{id}" is there twice; expected one text an id. Remove one.'
            )
        found[id] = text
    if not found:
        raise ManifestError(f"{path}: no utterance; expected at least one. Check the file.")
    return Texts(found, ordered)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path}: byte {error.start} is not UTF-8; expected UTF-8 text. Convert the file."
        ) from error


def _json_rows(path: Path) -> Iterator[tuple[str, Text]]:
    first = None
    if path.suffix != ".gz":
        first = next((line for _, line in _lines(path) if line.strip()), "")
    if first is None or '"MonoCut"' in first or '"recording"' in first:
        yield from _cut_rows(path)
        return
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            yield (
                str(row["id"]),
                Text(
                    str(row["text"]),
                    audio=str(row.get("audio") or ""),
                    start=float(row.get("start") or 0),
                    duration=float(row.get("duration") or 0),
                    confidence=row.get("confidence"),
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(
                f"{path}:{number}: no transcript row ({error!r}); expected JSON with id and text. "
                'Write it with "speechmm transcribe --format jsonl".'
            ) from error


def _cut_rows(path: Path) -> Iterator[tuple[str, Text]]:
    from speechmm.data.manifest import audio_path, cut_text, read_cuts

    for cut in read_cuts(path):
        speaker = next((s.speaker for s in cut.supervisions if s.speaker), "")
        yield (
            cut.id,
            Text(
                cut_text(cut),
                speaker=speaker or "",
                audio=str(audio_path(cut)),
                start=cut.start,
                duration=cut.duration,
            ),
        )


def _trn_rows(path: Path) -> Iterator[tuple[str, Text]]:
    for number, line in _lines(path):
        if not line.strip() or line.startswith(";;"):
            continue
        match = _TRN.match(line)
        if match is None:
            raise ManifestError(
                f'{path}:{number}: found {line[:60]!r}; expected "words (utterance-id)". '
                "Correct the line."
            )
        yield match["id"], Text(match["text"])


def _kaldi_rows(path: Path) -> Iterator[tuple[str, Text]]:
    for _, line in _lines(path):
        if line.strip():
            id, _, text = line.strip().partition(" ")
            yield id, Text(text.strip())


def _plain_rows(path: Path) -> Iterator[tuple[str, Text]]:
    for number, line in _lines(path):
        yield f"{number}", Text(line)


def write_trn(texts: dict[str, str], path: Path) -> None:
    """Writes ``words (id)`` lines, as NIST sclite reads them."""
    from speechmm.writing import write_text

    write_text(path, "".join(f"{text} ({id})\n".lstrip() for id, text in texts.items()))

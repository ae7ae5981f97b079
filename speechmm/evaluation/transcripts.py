"""Texts by utterance, from whatever recognisers and corpora write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechmm.errors import ManifestError
from speechmm.files.atomic import write_text
from speechmm.files.text import read_text

_TRN = re.compile(r"^(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)\s*$")
_TRN_SIGNS = re.compile(r"[{}]|(?<!\S)@(?!\S)|(?<!\S);(?=;)")
"""What sclite takes for its own in a text: alternatives, the empty word, a comment line."""


@dataclass(frozen=True)
class Text:
    """One utterance's text, and what else its file says of it."""

    text: str
    speaker: str = ""
    audio: str = ""
    """Path of the audio file, "" when not known."""
    start: float = 0.0
    """Seconds from the start of the audio file."""
    duration: float = 0.0
    """Seconds; 0 when not known."""
    confidence: float | None = None
    word_confidences: tuple[float, ...] = ()
    """Of the words in their order; empty when not known."""
    word_times: tuple[tuple[float, float], ...] = ()
    """Starts and ends in seconds from the start of the audio file; empty when not known."""


@dataclass(frozen=True)
class Texts:
    """The texts of one file."""

    path: Path
    by_id: dict[str, Text]
    kind: str
    """What the file is: cuts, jsonl, trn, kaldi or plain."""

    @property
    def plain(self) -> bool:
        """Lines without ids, which count by their position."""
        return self.kind == "plain"


def read_texts(path: Path) -> Texts:
    """Reads a cuts manifest, ``jsonl``, ``trn``, Kaldi ``text`` or plain lines.

    The suffix decides: ``.jsonl`` or ``.jsonl.gz``, ``.trn``; a file named ``text`` or ending in
    ``.text`` is Kaldi's. Any other is looked at: rows of JSON, lines that all end in ``(id)``, and
    else plain lines, one utterance each, empty ones too.

    Raises:
        ManifestError: The file is missing or broken, or an id is there twice.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: not found; expected a file of texts. Check the name.")
    lines = _lines(path)
    kind, parse = _kind(path, lines)
    found: dict[str, Text] = {}
    for number, line in enumerate(lines, 1):
        row = parse(line, f"{path}:{number}")
        if row is None:
            continue
        id, text = row
        id = id or str(number)
        if id in found:
            raise ManifestError(
                f'{path}:{number}: id "{id}" is there twice; expected one text an id. Remove one.'
            )
        found[id] = text
    if not found:
        raise ManifestError(f"{path}: no utterance; expected at least one. Check the file.")
    return Texts(path, found, kind)


def with_ids_of(texts: Texts, other: Texts) -> Texts:
    """Plain lines under the ids of another file.

    Lines that mostly begin with ids of the other file are Kaldi's after all; else the lines belong
    to the other file's utterances in their order.

    Raises:
        ManifestError: They count by order and are not as many.
    """
    kaldi = [_kaldi_line(one.text, "") for one in texts.by_id.values()]
    rows = [row for row in kaldi if row is not None]
    ids = [id for id, _ in rows]
    if not other.plain and len(set(ids)) == len(ids):
        known = sum(id in other.by_id for id in ids)
        if 2 * known > len(ids):
            return replace(texts, by_id=dict(rows), kind="kaldi")
    if len(texts.by_id) != len(other.by_id):
        raise ManifestError(
            f"{texts.path}: {len(texts.by_id)} lines, but {other.path} has {len(other.by_id)} "
            "utterances; lines without ids are matched by order, so expected as many. Add the "
            "missing lines (empty where nothing was recognised) or use a format with ids."
        )
    return replace(texts, by_id=dict(zip(other.by_id, texts.by_id.values(), strict=True)))


def write_trn(texts: Mapping[str, str], path: Path) -> None:
    """Writes ``words (id)`` lines that NIST sclite reads word for word.

    Signs that sclite gives a meaning of its own ("{" begins alternatives) are written as in a URL,
    and so are spaces and parentheses in ids: the totals stay those of the texts.
    """
    lines = [f"{_trn_text(text)} ({_trn_id(id)})".lstrip() for id, text in texts.items()]
    write_text(path, "".join(line + "\n" for line in lines))


def write_timed(
    references: Mapping[str, str], hypotheses: Mapping[str, str], texts: Mapping[str, Text],
    stm: Path, ctm: Path,
) -> bool:  # fmt: skip
    """Writes references as ``stm`` and recognised words as ``ctm``, as NIST sclite reads them.

    Every utterance is a file of its own there, named by its id. Words whose times are not known
    share the utterance equally. Nothing is written where a duration is not known.

    Args:
        references: Normalised texts by id.
        hypotheses: Likewise.
        texts: What is known of each: speaker, duration, times of words.
        stm: File to write.
        ctm: File to write.

    Returns:
        Whether they were written.
    """
    if not all(texts[id].duration > 0 for id in references):
        return False
    said, heard = [], []
    for id in sorted(references, key=lambda id: _trn_id(id).encode()):
        text, name = texts[id], _trn_id(id)
        speaker = _trn_id(text.speaker) or "unknown"
        said.append(
            f"{name} 1 {speaker} 0.000 {text.duration:.3f} <o> {_trn_text(references[id])}".rstrip()
        )
        words = _trn_text(hypotheses[id]).split()
        for word, (start, end) in zip(words, _spans(text, len(words)), strict=True):
            heard.append(f"{name} 1 {start:.3f} {end - start:.3f} {word}")
    write_text(stm, "".join(line + "\n" for line in said))
    write_text(ctm, "".join(line + "\n" for line in heard))
    return True


def _spans(text: Text, words: int) -> list[tuple[float, float]]:
    """Times of the words from the start of the utterance, in order and inside it."""
    if len(text.word_times) == words:
        inside = [
            (min(max(a - text.start, 0.0), text.duration), min(b - text.start, text.duration))
            for a, b in text.word_times
        ]
        return [(start, max(start, end)) for start, end in inside]
    share = text.duration / max(1, words)
    return [(share * at, share * (at + 1)) for at in range(words)]


def _trn_text(text: str) -> str:
    return _TRN_SIGNS.sub(_percent, " ".join(text.split()))


def _trn_id(id: str) -> str:
    return re.sub(r"[\s()]", _percent, id)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8"))


_Row = tuple[str, Text] | None
_Parser = Callable[[str, str], _Row]


def _lines(path: Path) -> list[str]:
    """All lines of a file, packed or not, without their ends."""
    lines = read_text(path).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _kind(path: Path, lines: Iterable[str]) -> tuple[str, _Parser]:
    filled = [line for line in lines if line.strip()]
    name = path.name.removesuffix(".gz")
    if name.endswith((".jsonl", ".json")) or (filled and _is_object(filled[0])):
        is_cuts = any(_is_cut(line) for line in filled[:1])
        return ("cuts", _cut_line) if is_cuts else ("jsonl", _json_line)
    if name.endswith(".trn"):
        return "trn", _trn_line
    if name == "text" or name.endswith(".text"):
        return "kaldi", _kaldi_line
    if filled and all(_TRN.match(line) or line.startswith(";;") for line in filled):
        return "trn", _trn_line
    return "plain", _plain_line


def _is_object(line: str) -> bool:
    return _parsed(line) is not None


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _is_cut(line: str) -> bool:
    row = _parsed(line) or {}
    return "supervisions" in row or row.get("type") in ("MonoCut", "MultiCut")


def _json_line(line: str, where: str) -> _Row:
    if not line.strip():
        return None
    try:
        row: Any = json.loads(line)
        return str(row["id"]), Text(
            _string(row["text"]),
            speaker=str(row.get("speaker") or ""),
            audio=str(row.get("audio") or ""),
            start=float(row.get("start") or 0),
            duration=float(row.get("duration") or 0),
            confidence=_confidence(row.get("confidence")),
            word_confidences=_word_confidences(row.get("words")),
            word_times=_word_times(row.get("words")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{where}: no transcript row ({type(error).__name__}: {error}); expected JSON with id "
            'and text. Write it with "speechmm transcribe --format jsonl".'
        ) from error


def _cut_line(line: str, where: str) -> _Row:
    """Only what scoring needs of a cut: twenty times faster than all of lhotse's."""
    if not line.strip():
        return None
    try:
        row: Any = json.loads(line)
        spoken = row.get("supervisions") or []
        sources = (row.get("recording") or {}).get("sources") or []
        in_file = len(sources) == 1 and sources[0].get("type") == "file"
        return str(row["id"]), Text(
            " ".join(_string(one["text"]) for one in spoken if one.get("text")),
            speaker=next((str(one["speaker"]) for one in spoken if one.get("speaker")), ""),
            audio=str(sources[0]["source"]) if in_file else "",
            start=float(row.get("start") or 0),
            duration=float(row["duration"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{where}: no valid cut ({type(error).__name__}: {error}); expected a row of a cuts "
            'manifest. Make it again with "speechmm prepare".'
        ) from error


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the text is {value!r}, not a string")
    return value


def _confidence(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _word_confidences(words: Any) -> tuple[float, ...]:
    """Of all words, or of none."""
    found = [_confidence(word.get("confidence")) for word in words or ()]
    known = tuple(value for value in found if value is not None)
    return known if len(known) == len(found) else ()


def _word_times(words: Any) -> tuple[tuple[float, float], ...]:
    """Of all words, or of none."""
    found = [(word.get("start"), word.get("end")) for word in words or ()]
    if any(start is None or end is None for start, end in found):
        return ()
    return tuple((float(start), float(end)) for start, end in found)


def _trn_line(line: str, where: str) -> _Row:
    if not line.strip() or line.startswith(";;"):
        return None
    match = _TRN.match(line)
    if match is None:
        raise ManifestError(
            f'{where}: found {line[-60:]!r}; expected "words (utterance-id)". Correct the line.'
        )
    return match["id"], Text(match["text"])


def _kaldi_line(line: str, where: str) -> _Row:
    fields = line.split(maxsplit=1)
    return (fields[0], Text(" ".join(fields[1:]))) if fields else None


def _plain_line(line: str, where: str) -> _Row:
    return "", Text(line)

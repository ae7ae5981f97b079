"""Reads texts by utterance from the files of recognisers, aligners and corpora."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from speechmm.alignments import Alignment, Transcript, read_alignments
from speechmm.alignments.ctm import read_ctm
from speechmm.alignments.ids import id_of_file, looks_like_id
from speechmm.alignments.kinds import FileKind, kind_of
from speechmm.alignments.scripts import joined_words
from speechmm.alignments.subtitle_files import SUBTITLE_SUFFIXES, read_subtitles
from speechmm.alignments.trn_stm import StmRow, parse_stm_line
from speechmm.errors import AlignmentError, ManifestError
from speechmm.evaluation.alignment_sets import spoken_segments
from speechmm.evaluation.text_lines import (
    LineParser,
    UtteranceText,
    cut_line,
    json_line,
    kaldi_line,
    plain_line,
    row_text,
    trn_line,
)
from speechmm.files.pipes import is_readable
from speechmm.files.shar import cut_files, is_shar
from speechmm.files.text import all_lines
from speechmm.files.tree import list_files


@dataclass(frozen=True)
class TextSet:
    """The texts of one file or folder."""

    path: Path
    by_id: dict[str, UtteranceText]
    kind: FileKind

    @property
    def plain(self) -> bool:
        """Lines without ids, which count by their position."""
        return self.kind == "plain"

    @property
    def times_from_utterance(self) -> bool:
        """Whether times count from the start of the utterance, wherever it is in its audio file."""
        return self.kind in ("ctm", "textgrid")


def read_text_set(path: Path) -> TextSet:
    """Reads a cuts manifest, ``jsonl``, ``trn``, ``stm``, ``ctm``, Kaldi ``text`` or plain lines.

    And subtitles (``srt``, ``vtt``, ``ass``) and TextGrids, one file or a folder of them: each is
    an utterance, named by its file.

    Of one file `kind_of` says what it is; plain lines are one utterance each, empty ones too.

    Raises:
        ManifestError: The file is missing or broken, or an id is there twice.
        AlignmentError: A ctm or TextGrid is broken, or has no words.
    """
    if is_readable(path) or is_shar(path):
        kind, rows = _file_rows(path)
    elif path.is_dir():
        kind, rows = _folder_rows(path)
    else:
        raise ManifestError(f"{path}: not found; expected a file of texts. Check the name.")
    found: dict[str, UtteranceText] = {}
    for where, id, text in rows:
        if id in found:
            raise ManifestError(
                f'{where}: id "{id}" is there twice; expected one text an id. Remove one.'
            )
        found[id] = text
    if not found:
        raise ManifestError(f"{path}: no utterance; expected at least one. Check the file.")
    return TextSet(path, found, kind)


def text_set_of(transcripts: Iterable[Transcript], name: str) -> TextSet:
    """Transcripts in memory, just as a file of them would be read.

    Args:
        transcripts: What was recognised.
        name: What messages call them.

    Raises:
        ManifestError: There are none.
    """
    found = dict(row_text(transcript.to_dict()) for transcript in transcripts)
    if not found:
        raise ManifestError(f"{name}: no utterance; expected at least one. Check the inputs.")
    return TextSet(Path(name), found, "jsonl")


def with_own_ids(first: TextSet, second: TextSet) -> tuple[TextSet, TextSet]:
    """Two files of plain lines; where all their lines begin with ids, under these.

    First words are ids when they differ from line to line, are mostly the same in both files and
    look like ids.

    Raises:
        ManifestError: They do not look like ids, but the lines are in another order.
    """
    rows = [_rows_with_ids(texts) for texts in (first, second)]
    ids = [list(one) for one in rows]
    shared = set(ids[0]) & set(ids[1])
    if 2 * len(shared) <= max(map(len, ids)) or min(map(len, ids)) < 2:
        return first, second
    if 2 * sum(map(looks_like_id, shared)) > len(shared):
        return (
            replace(first, by_id=rows[0], kind="kaldi"),
            replace(second, by_id=rows[1], kind="kaldi"),
        )
    if [id for id in ids[0] if id in shared] != [id for id in ids[1] if id in shared]:
        raise ManifestError(
            f"{first.path}: its lines begin with the same words as those of {second.path}, in "
            "another order; expected ids, or texts in one order. If they are ids, name both files "
            "with the suffix .text."
        )
    return first, second


def _rows_with_ids(texts: TextSet) -> dict[str, UtteranceText]:
    """Texts by the first words of the lines; none where a first word comes twice."""
    found = [kaldi_line(one.text, "") for one in texts.by_id.values()]
    rows = [row for row in found if row is not None]
    by_id = dict(rows)
    return by_id if len(by_id) == len(rows) else {}


def with_ids_of(texts: TextSet, other: TextSet) -> TextSet:
    """Plain lines under the ids of another file.

    Lines that mostly begin with ids of the other file are Kaldi's after all; else the lines belong
    to the other file's utterances in their order.

    Raises:
        ManifestError: They count by order and are not as many.
    """
    rows = _rows_with_ids(texts)
    if rows and not other.plain:
        known = sum(id in other.by_id for id in rows)
        if 2 * known > len(rows):
            return replace(texts, by_id=rows, kind="kaldi")
    if len(texts.by_id) != len(other.by_id):
        raise ManifestError(
            f"{texts.path}: {len(texts.by_id)} lines, but {other.path} has {len(other.by_id)} "
            "utterances; lines without ids are matched by order, so expected as many. Add the "
            "missing lines (empty where nothing was recognised) or use a format with ids."
        )
    return replace(texts, by_id=dict(zip(other.by_id, texts.by_id.values(), strict=True)))


_PARTS_OF_WORDS = frozenset(["char", "phone", "syllable", "token"])
_Rows = Iterable[tuple[str, str, UtteranceText]]
"""Where (file and line), id and text."""


def _folder_rows(folder: Path) -> tuple[FileKind, _Rows]:
    """Subtitles or TextGrids of a folder, each an utterance."""
    files = list_files(folder)
    grids = [file for file in files if file.suffix.lower() == ".textgrid"]
    subtitles = [file for file in files if file.suffix.lower() in SUBTITLE_SUFFIXES]
    if bool(grids) == bool(subtitles):
        found = "both TextGrids and subtitles" if grids else "neither TextGrids nor subtitles"
        raise ManifestError(
            f"{folder}: {found} are in this folder; expected one of them (.TextGrid; .srt, .vtt or "
            ".ass), a file for each utterance. Check the path, or name a file."
        )
    if grids:
        return "textgrid", _aligned_rows(folder, read_alignments(folder))
    return "subtitles", map(_subtitle_row, subtitles)


def _file_rows(path: Path) -> tuple[FileKind, _Rows]:
    kind = kind_of(path)
    if kind == "textgrid":
        return kind, _aligned_rows(path, read_alignments(path))
    if kind == "subtitles":
        return kind, [_subtitle_row(path)]
    if kind == "ctm":
        return kind, _aligned_rows(path, read_ctm(path, unit="word"))
    if kind == "stm":
        return kind, _stm_rows(path, all_lines(path))
    parts = cut_files(path)
    return kind, chain.from_iterable(
        _line_rows(part, all_lines(part), _PARSERS[kind]) for part in parts
    )


_PARSERS: dict[FileKind, LineParser] = {
    "cuts": cut_line,
    "jsonl": json_line,
    "trn": trn_line,
    "kaldi": kaldi_line,
    "plain": plain_line,
}


def _subtitle_row(file: Path) -> tuple[str, str, UtteranceText]:
    cues = read_subtitles(file)
    return str(file), id_of_file(file), UtteranceText(" ".join(cue.label for cue in cues))


def _aligned_rows(path: Path, alignments: Iterable[Alignment]) -> _Rows:
    for one in alignments:
        unit = "word" if "word" in one.units else next(iter(one.units), "")
        if unit != "word" and (len(one.units) > 1 or unit in _PARTS_OF_WORDS):
            raise AlignmentError(
                f"{path}: {one.id}: the units are {', '.join(one.units)}; expected words. "
                'Name the tier of words "words", or align with --unit word.'
            )
        yield str(path), one.id, _text_of(one, unit)


def _text_of(alignment: Alignment, unit: str) -> UtteranceText:
    """The words of an alignment; its times count from the start of the utterance."""
    words = spoken_segments(alignment, unit)
    known = [word.confidence for word in words if word.confidence is not None]
    return UtteranceText(
        joined_words([word.label for word in words]),
        confidence=alignment.confidence,
        word_confidences=tuple(known) if len(known) == len(words) else (),
        word_times=tuple((word.start, word.end) for word in words),
        word_labels=tuple(word.label for word in words),
    )


def _stm_rows(path: Path, lines: Sequence[str]) -> _Rows:
    """The texts of each recording (and channel) in the order of time, with the first speaker."""
    rows: dict[tuple[str, str], list[StmRow]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            found = parse_stm_line(line)
        except ValueError as error:
            raise ManifestError(
                f"{path}:{number}: {line[:60]!r} is not a line of stm ({error}); expected id, "
                "channel, speaker, start, end (seconds), label and words. Correct the line."
            ) from error
        if found is not None:
            channel, row = found
            rows.setdefault((row.id, channel), []).append(row)
    rows = {key: found for key, found in rows.items() if any(row.scored for row in found)}
    channels = Counter(name for name, _ in rows)
    for (name, channel), found_rows in rows.items():
        spoken = sorted((row for row in found_rows if row.scored), key=lambda row: row.start)
        not_scored = tuple((row.start, row.end) for row in found_rows if not row.scored)
        text = " ".join(row.text for row in spoken if row.text)
        end = max(row.end for row in spoken)
        id = name if channels[name] == 1 else f"{name}-{channel}"
        speaker = spoken[0].speaker
        one = UtteranceText(text, speaker=speaker, duration=end, not_scored=not_scored)
        yield str(path), id, one


def _line_rows(path: Path, lines: Sequence[str], parse: LineParser) -> _Rows:
    for number, line in enumerate(lines, 1):
        row = parse(line, f"{path}:{number}")
        if row is not None:
            yield f"{path}:{number}", row[0] or str(number), row[1]

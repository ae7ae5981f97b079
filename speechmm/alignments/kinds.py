"""Tells what a file of texts or alignments is, by its name and its content, for every command alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from speechmm.alignments.ctm import is_ctm_line
from speechmm.alignments.ids import looks_like_id
from speechmm.alignments.subtitle_files import SUBTITLE_SUFFIXES, is_cue_time
from speechmm.alignments.trn_stm import is_trn_line, parse_trn_line
from speechmm.files.json_text import parse_json
from speechmm.files.shar import is_shar
from speechmm.files.text import peek_lines

FileKind = Literal["cuts", "jsonl", "trn", "stm", "ctm", "textgrid", "subtitles", "kaldi", "plain"]
"""Cuts manifests, rows of JSON, NIST's formats, TextGrids, subtitles, Kaldi's text, plain lines."""

_KIND_BY_SUFFIX: dict[str, FileKind] = {
    ".textgrid": "textgrid",
    ".ctm": "ctm",
    ".stm": "stm",
    ".trn": "trn",
    ".text": "kaldi",
    **dict.fromkeys(SUBTITLE_SUFFIXES, "subtitles"),
}
_JSON_SUFFIXES = (".jsonl", ".json")
_JSON_START = re.compile(r'\s*\{\s*("|$)')


def kind_of(path: Path) -> FileKind:
    """What a file is; where nothing else is found, plain lines.

    The suffix decides (before ``.gz``), and a file named ``text`` is Kaldi's. Any other is looked
    at: TextGrids, rows of JSON, subtitles, lines that are all of a ctm, or that all end in
    ``(id)``. Rows of JSON are cuts when the first one is. A file that cannot be read is told by its
    name; what is wrong with it is left to its reader. A folder of lhotse Shar is cuts.
    """
    if is_shar(path):
        return "cuts"
    name = Path(path.name.removesuffix(".gz"))
    lines = peek_lines(path)
    if "ooTextFile" in "".join(lines[:3])[:400].replace("\0", ""):
        return "textgrid"
    if name.name == "text":
        return "kaldi"
    if name.suffix.lower() in _KIND_BY_SUFFIX:
        return _KIND_BY_SUFFIX[name.suffix.lower()]
    if name.suffix.lower() in _JSON_SUFFIXES or (lines and _JSON_START.match(lines[0])):
        return "cuts" if lines and _is_cut(lines[0]) else "jsonl"
    return _kind_of_lines(lines)


def _is_cut(line: str) -> bool:
    """Whether a line is one of lhotse's cuts."""
    try:
        row = parse_json(line)
    except ValueError:
        return False
    if not isinstance(row, dict):
        return False
    return "supervisions" in row or row.get("type") in ("MonoCut", "MultiCut")


def _kind_of_lines(lines: Sequence[str]) -> FileKind:
    if lines and (lines[0].startswith("WEBVTT") or any(map(is_cue_time, lines[:3]))):
        return "subtitles"
    spoken = [line for line in lines if not line.startswith(";;")]  # the others are comments
    if spoken and all(map(is_ctm_line, spoken)):
        return "ctm"
    return "trn" if _are_trn(spoken) else "plain"


def _are_trn(lines: Sequence[str]) -> bool:
    """Whether all lines end in "(id)"; what comes twice and is like no id is not: "(laughs)"."""
    if not lines or not all(map(is_trn_line, lines)):
        return False
    rows = [row for row in map(parse_trn_line, lines) if row is not None]
    ids = [id for id, _ in rows]
    return len(set(ids)) == len(ids) or 2 * sum(map(looks_like_id, ids)) > len(ids)

"""Finds a corpus's transcripts: which table is meant when none is named."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from speechmm.audio.files import audio_among
from speechmm.data.splits import SPLIT_NAMES
from speechmm.data.transcripts.sidecars import pair_files
from speechmm.data.transcripts.tables import has_transcript_header
from speechmm.errors import ManifestError

logger = logging.getLogger(__name__)

_SUFFIXES = (".csv", ".tsv", ".txt")
_KNOWN = [
    "metadata",
    "transcripts",
    "transcript",
    "transcriptions",
    "transcription",
    "validated",
    "line_index",
    "index",
    "prompts",
    "utterances",
    "manifest",
    "text",
    "texts",
    "sentences",
]
_SPLIT_TABLE = re.compile(r"(?:[a-z]+[_-])?([a-z]+)")


def find_tables(root: Path, files: list[Path]) -> list[Path]:
    """The transcript tables to read: none when every recording has its own text file.

    In this order: tables named after splits (``train.tsv``, ``metadata_train.csv``); a table of a
    known name (``metadata.csv``, ``validated.tsv``, ...) in ``root``, where every recording has a text
    file only one whose header names texts and recordings; text files beside the recordings; the only
    table in ``root``; tables of a known name in the folders below, and LibriSpeech's ``*.trans.txt``.

    Raises:
        ManifestError: There is no transcript at all, or any of several tables could be meant.
    """
    audio = audio_among(files)
    tables = [path for path in files if path.suffix.lower() in _SUFFIXES]
    recorded = {path.stem.lower() for path in audio}
    here = [path for path in tables if path.parent == root and path.stem.lower() not in recorded]
    pairs = pair_files(files, audio)
    by_split = _split_tables(here, lists=bool(pairs))
    if by_split:
        return by_split
    known = sorted((path for path in here if _rank(path) < len(_KNOWN)), key=_rank)
    if audio and len(pairs) == len(audio):
        known = _with_header(known)
    if known:
        return known[:1]
    if pairs:
        return []
    return _only_table(root, here) or _tables_below(tables) or _nothing_found(root)


def split_of_table(path: Path) -> str:
    """The split a table is named after, "" when none: ``metadata_train.csv`` is train."""
    match = _SPLIT_TABLE.fullmatch(path.stem.lower())
    return SPLIT_NAMES.get(match[1], "") if match else ""


def split_of_folders(path: Path, root: Path) -> str:
    """The split a folder between ``root`` and the table is named after, "" when none."""
    if not path.is_relative_to(root):
        return ""
    names = (SPLIT_NAMES.get(part.lower(), "") for part in path.relative_to(root).parts[:-1])
    return next(filter(None, names), "")


def _rank(path: Path) -> int:
    stem = path.stem.lower()
    return _KNOWN.index(stem) if stem in _KNOWN else len(_KNOWN)


def _with_header(tables: list[Path]) -> list[Path]:
    """The tables whose header names texts and recordings; the others are named in the log."""
    found = []
    for path in tables:
        if has_transcript_header(path):
            found.append(path)
        else:
            logger.info(
                "%s is passed over: every recording has a text file, and its first line names no columns "
                "of texts and recordings (--transcripts takes it nevertheless)",
                path,
            )
    return found


def _only_table(root: Path, here: list[Path]) -> list[Path]:
    tables = [path for path in here if path.suffix.lower() != ".txt"]
    if not tables:
        texts = [path for path in here if path.suffix.lower() == ".txt"]
        tables = [path for path in texts if not path.stem.lower().startswith(("readme", "licen"))]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise ManifestError(
            f"{root}: found the tables {names}; expected one. Name the one with the texts "
            "with --transcripts."
        )
    return tables


def _tables_below(tables: list[Path]) -> list[Path]:
    books = [path for path in tables if path.name.lower().endswith(".trans.txt")]
    known = [path for path in tables if _rank(path) < len(_KNOWN)]
    others = [path for path in tables if path.suffix.lower() != ".txt"]
    return books or known or _split_tables(tables) or (others if len(others) == 1 else [])


def _split_tables(tables: list[Path], *, lists: bool = False) -> list[Path]:
    """Tables named after splits, if train is among them; ``.txt`` may be mere ``lists``."""
    named = [path for path in tables if split_of_table(path)]
    if lists:
        named = [path for path in named if path.suffix.lower() != ".txt"]
    return named if any(split_of_table(path) == "train" for path in named) else []


def _nothing_found(root: Path) -> list[Path]:
    raise ManifestError(
        f"{root}: found no transcripts; expected a .txt or .lab file beside every recording, or a "
        "table such as metadata.csv. Name the table with --transcripts."
    )

"""Reads texts to learn language from: cuts manifests, or plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from speechmm.alignments.kinds import kind_of
from speechmm.data.manifest import cut_text, read_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import ManifestError
from speechmm.files.text import read_lines


def read_texts(path: Path, skipped: SkipReport) -> Iterator[str]:
    """The texts of a file, those without a word left out.

    Args:
        path: A cuts manifest, as `kind_of` tells, or any other file: a sentence a line.
        skipped: Where cuts that cannot be read, and lines that are not UTF-8, are noted.

    Raises:
        ManifestError: The file is missing, or no text is in it.
    """
    found = False
    are_cuts = kind_of(path) in ("cuts", "jsonl")
    lines = _cuts(path, skipped) if are_cuts else _lines(path, skipped)
    for text in lines:
        if text.strip():
            found = True
            yield text.strip()
    if not found:
        raise ManifestError(f"{path}: found no text; expected at least one sentence. Check it.")


def _cuts(path: Path, skipped: SkipReport) -> Iterator[str]:
    return (cut_text(cut) for cut in read_cuts(path, skipped))


def _lines(path: Path, skipped: SkipReport) -> Iterator[str]:
    return (line for _, line in read_lines(path, skip=skipped.add))

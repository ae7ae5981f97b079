"""Reads the lines of transcript and alignment files, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from speechmm.errors import ManifestError, SpeechmmError
from speechmm.files.text import read_text

_GZIP = b"\x1f\x8b"


def all_lines(path: Path, *, error: type[SpeechmmError] = ManifestError) -> list[str]:
    """All lines without their ends, blank ones too.

    Args:
        path: Text in UTF-8, or in UTF-16 where a byte order mark says so.
        error: What is raised when the file cannot be read.
    """
    try:
        text = _unpacked(path)
    except ManifestError as cause:
        raise error(str(cause)) from cause
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def _unpacked(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if file.read(2) != _GZIP:
                return read_text(path)
        text = gzip.decompress(path.read_bytes()).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise ManifestError(
            f"{path}: byte {cause.start} is not UTF-8; expected UTF-8 text. Convert the file."
        ) from cause
    except (OSError, EOFError, zlib.error) as cause:  # gzip reports damage with all three
        raise ManifestError(
            f"{path}: cannot be read ({cause}); expected a whole file. Make it again."
        ) from cause
    return text.replace("\r\n", "\n").replace("\r", "\n")

"""Reading what people type: text files in UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from speechmm.errors import ManifestError


def read_text(path: Path) -> str:
    """The file's text, with Unix line ends; UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        ManifestError: The file cannot be read, or is in another encoding (names line and byte).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read ({error.strerror}); expected a text file."
        ) from error
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ManifestError(_encoding_message(path, data, error)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    lines = read_text(path).split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _encoding_message(path: Path, data: bytes, error: UnicodeDecodeError) -> str:
    bom = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    offset = min(error.start + (bom if error.encoding == "utf-8" else 0), len(data) - 1)
    line_start = data.rfind(b"\n", 0, offset) + 1
    line = data.count(b"\n", 0, offset) + 1
    return (
        f"{path}:{line}: byte 0x{data[offset]:02x} at position {offset - line_start + 1} of the"
        f" line (offset {offset} in the file) is not UTF-8; expected UTF-8 text. Convert it, for"
        f' example with "iconv -f WINDOWS-1252 -t UTF-8".'
    )

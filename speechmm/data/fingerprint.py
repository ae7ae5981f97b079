"""Tells whether a training would read the same data: by content, not by place or date."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from speechmm.files.archives import SUFFIX as ARCHIVE_SUFFIX
from speechmm.files.archives import find_member
from speechmm.files.shar import archives, cut_files
from speechmm.files.text import open_lines

_FOLDER = re.compile(rb'("(?:source|storage_path)": ")[^"]*/')
_SOURCE = re.compile(rb'"source": ("(?:[^"\\]|\\.)*")')
_BLOCK = 4096
_THREADS = 8
SAMPLED_FILES = 2000
"""Files of audio whose content a digest looks into: more would make every start of a training wait."""


def content_digest(path: Path) -> str:
    """A digest of a file's content, unpacked; folders of audio that a manifest names do not count."""
    digest = hashlib.sha256()
    try:
        for part in cut_files(path):
            with open_lines(part) as file:
                for line in file:
                    digest.update(_FOLDER.sub(rb"\1", line) if b"/" in line else line)
    except (OSError, EOFError, zlib.error):  # reading it will say why
        return "unreadable"
    return digest.hexdigest()


def audio_files(manifests: Iterable[Path]) -> list[Path]:
    """The files and archives of audio that manifests name, each once; none of what cannot be read."""
    return [Path(name) for name in _audio_names(manifests)]


def _audio_names(manifests: Iterable[Path]) -> list[str]:
    found: dict[bytes, None] = {}
    packed: dict[str, None] = {}
    for manifest in manifests:
        packed.update((str(archive), None) for archive in archives(manifest))
        for part in cut_files(manifest):
            try:
                with open_lines(part) as file:
                    for line in file:
                        found.update((name, None) for name in _SOURCE.findall(line))
            except (OSError, EOFError, zlib.error):
                continue
    names = filter(None, map(_text, found))
    return list(dict.fromkeys([*packed, *map(_file_of, names)]))


def _file_of(name: str) -> str:
    """The archive where a name leads into one."""
    member = find_member(Path(name)) if f"{ARCHIVE_SUFFIX}/" in name else None
    return name if member is None else str(member[0])


def audio_digest(manifests: Iterable[Path]) -> str:
    """A digest of the audio that manifests name: of every file its size, beginning, middle and end.

    Of more than `SAMPLED_FILES` only so many, from all over, are opened; of the others the size counts.
    """
    files = _audio_names(manifests)
    step = -(-len(files) // SAMPLED_FILES) or 1
    digest = hashlib.sha256()
    for place, path in enumerate(files):
        if place % step:
            digest.update(_size(path))
    with ThreadPoolExecutor(_THREADS) as pool:
        for sample in pool.map(_sample, map(Path, files[::step])):
            digest.update(sample)
    return digest.hexdigest()


def _size(path: str) -> bytes:
    try:
        return b"%d " % os.stat(path).st_size  # noqa: PTH116 (a path object takes longer to make)
    except (OSError, ValueError):
        return b"-1 "


def _text(name: bytes) -> str | None:
    try:
        text: str = json.loads(name) if b"\\" in name else name[1:-1].decode("utf-8")
    except ValueError:
        return None
    return text if "\0" not in text else None


def _sample(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    try:
        size = path.stat().st_size
        if path.is_file():
            with path.open("rb") as file:
                for place in (0, size // 2, max(0, size - _BLOCK)):
                    file.seek(place, os.SEEK_SET)
                    digest.update(file.read(_BLOCK))
    except (OSError, ValueError):
        size = -1
    digest.update(str(size).encode())
    return digest.digest()

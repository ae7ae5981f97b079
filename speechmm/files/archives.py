"""Reads files inside tar archives, by paths that lead into them: ``recording.000000.tar/utterance``.

An archive is read from its beginning to its end when the first of its files is asked for, which says
where each lies. The system keeps what it read in memory as long as there is room, so the others come
from there, in whatever order; a disk or a network reads large files in one go.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from speechmm.errors import ManifestError, SpeechmmError

KEPT = 32
"""Archives of which a process remembers where their files lie."""
SUFFIX = ".tar"
_BLOCK = 1 << 20
_HEADER = 512  # bytes
_NO_DATA = ("json", "nodata", "nometa")  # what lhotse writes beside the data


@dataclass(frozen=True)
class _Archive:
    places: dict[str, tuple[int, int]]
    """Of each file, by its name without suffix: first byte and bytes."""
    damage: str
    """Why there may be more; "" where all was read."""


def find_member(path: Path) -> tuple[Path, str] | None:
    """The archive that a path leads into, and the name in it; None for any other path."""
    for archive in path.parents:
        if archive.suffix == SUFFIX and archive.is_file():
            return archive, path.relative_to(archive).as_posix()
    return None


def read_member(archive: Path, name: str, *, error: type[SpeechmmError] = ManifestError) -> bytes:
    """The content of a file in an archive.

    Args:
        archive: An uncompressed tar.
        name: Of the file, without its suffix; the suffix "json" is that of another one beside it.
        error: What is raised when it cannot be read.

    Raises:
        SpeechmmError: The archive is damaged, or there is no such file in it.
    """
    try:
        status = archive.stat()
        found = _read_through(archive, (status.st_ino, status.st_size, status.st_mtime_ns))
        first, size = found.places.get(_plain(name), (0, -1))
        with archive.open("rb") as file:
            file.seek(first)
            content = file.read(max(size, 0))
    except OSError as cause:
        raise error(
            f"{archive}: cannot be read ({cause.strerror or cause}); expected an archive. "
            "Check its permissions."
        ) from cause
    if size < 0:
        reason = f"; it is damaged: {found.damage}" if found.damage else ""
        raise error(
            f"{archive}: no file {name} is in it{reason}; expected one with its audio. "
            "Get the archive again."
        )
    if len(content) < size:
        raise error(
            f"{archive}: it ends within {name}, {size - len(content)} bytes are missing; expected "
            "a whole archive. Get it again."
        )
    return content


@lru_cache(maxsize=KEPT)
def _read_through(archive: Path, state: tuple[int, ...]) -> _Archive:
    """Where the files of an archive lie; ``state`` is another when the archive is."""
    damage = ""
    found: list[tuple[str, int, int]] | None = []
    try:
        with archive.open("rb", buffering=0) as file:
            block = bytearray(_BLOCK)
            while file.readinto(block):
                pass
            found = _plain_members(file)
            if found is None:
                file.seek(0)
                found = []
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    found += ((m.name, m.offset_data, m.size) for m in tar if m.isreg())
    except (tarfile.TarError, EOFError, ValueError) as error:
        damage = " ".join(str(error).split())
    places: dict[str, tuple[int, int]] = {}
    for full, first, size in found or ():
        name, _, kind = full.rpartition(".")
        if kind not in _NO_DATA:
            places.setdefault(_plain(name), (first, size))
    return _Archive(places, damage)


def _plain_members(file: io.RawIOBase) -> list[tuple[str, int, int]] | None:
    """Name, first byte and bytes of each file where all have short ASCII names; None elsewhere.

    It takes a tenth of the time that `tarfile` needs, which every reading process would need.
    """
    found: list[tuple[str, int, int]] = []
    at = 0
    while True:
        file.seek(at)
        header = file.read(_HEADER) or b""
        if header == bytes(_HEADER):
            return found
        is_file = header[156:157] in (b"0", b"\0") and header[257:262] == b"ustar"
        if len(header) < _HEADER or not is_file or any(header[345:500]):
            return None
        try:
            size = int(header[124:136].rstrip(b"\0 "), 8)
            name = header[:100].rstrip(b"\0").decode("ascii")
        except ValueError:
            return None
        found.append((name, at + _HEADER, size))
        at += _HEADER + -(-size // _HEADER) * _HEADER


def _plain(name: str) -> str:
    """A name as a path has it: without doubled strokes and the like."""
    return PurePosixPath("/", name.lstrip("/")).as_posix()[1:] if "/" in name else name

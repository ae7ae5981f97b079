"""Compares what the header of an audio file promises with what is there, and finds joined files.

Decoders believe headers: of a recorder that crashed (sizes 0), of a stream (sizes unknown), of two
files put one after the other. Here such a file is divided into parts that are decoded whole, its
header mended where that is plain, or refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile

from speechmm.audio.content import Content, Part
from speechmm.audio.streams import mp3_parts, ogg_parts, starts_mp3
from speechmm.errors import AudioError

_PIPE_SIZES = (range(0x7FFF_0000, 0x8000_0101), range(0xFFFF_0000, 0x1_0000_0000))
"""What programs write into a size of 32 bits when they cannot know it."""
_LENGTH_UNKNOWN = 0x7FFF_0000  # a size from here on in a 32-bit header means "written to a pipe"
_DATA_SIZE = re.compile(r"^\s*(BODY|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_FRAME_COUNT = re.compile(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)")
_TRAILING = 4096  # bytes after the last chunk that may be anything: a tag, padding


@dataclass(frozen=True)
class _Chunk:
    """The samples of a file of chunks."""

    size_at: int
    """Where its size is written."""
    start: int
    """The first byte of its content."""
    size: int
    """As the header says."""


def find_parts(content: Content, path: Path) -> list[Part]:
    """The parts of a file, to be decoded one after another; one for a file as it should be.

    Raises:
        AudioError: The header promises more than is there, or there is more than it tells of.
    """
    head = content.read(0, 16)
    form = (head[:4], head[8:12])
    if form in _CHUNKED:
        return _joined_parts(partial(_chunked_part, content, path, *_CHUNKED[form]))
    if head[:4] == b".snd":
        return _joined_parts(partial(_au_part, content, path))
    if head[:4] in _BY_MAGIC:
        return _BY_MAGIC[head[:4]](content, path)
    return mp3_parts(content, path) if starts_mp3(content) else [Part(0, content.size)]


def check_one_flac(content: Content, path: Path) -> None:
    """Searches a FLAC file for a second stream, which its header knows nothing of.

    Raises:
        AudioError: There is one.
    """
    if content.read(0, 4) == b"fLaC" and content.find(b"fLaC\0\0\0\x22", 4) > 0:
        raise _more_than_told(path, "another FLAC file begins in it")


def _joined_parts(part_at: Callable[[int], tuple[Part, int | None]]) -> list[Part]:
    """The files that were joined in one.

    Args:
        part_at: Gives the part that begins at a byte, and where the next begins, if there is one.
    """
    parts: list[Part] = []
    origin: int | None = 0
    while origin is not None:
        part, origin = part_at(origin)
        parts.append(part)
    return parts


def _chunked_part(
    content: Content, path: Path, name: bytes, number: str, origin: int
) -> tuple[Part, int | None]:
    """Of WAV and AIFF: files whose chunks have sizes of 32 bits."""
    rest = Part(origin, content.size)
    chunk = _find_chunk(content, name, number, origin + 12)
    if chunk is None:
        return rest, None
    left = content.size - chunk.start
    if chunk.size > left:
        if not any(chunk.size in sizes for sizes in _PIPE_SIZES):
            raise damaged(path, f"{left} bytes where the header says {chunk.size}")
        return rest, None
    end = chunk.start + chunk.size
    follower = _after(content, end, number)
    if follower is None:  # chunks, or nothing, to the end
        return rest, None
    magic = content.read(follower, 4)
    if magic == content.read(origin, 4) and content.read(follower + 8, 4) == content.read(
        origin + 8, 4
    ):
        return Part(origin, follower), follower
    told = struct.unpack(number, content.read(origin + 4, 4))[0] + 8 + origin
    if chunk.size and end <= told <= end + 1:
        raise _more_than_told(path, f"{content.size - end} bytes follow its last sample")
    return _mended(content, chunk, struct.pack(number, min(left, 0xFFFF_FFFF)), origin), None


def _find_chunk(content: Content, name: bytes, number: str, at: int) -> _Chunk | None:
    while at + 8 <= content.size:
        head = content.read(at, 8)
        size = struct.unpack(number, head[4:])[0]
        if head[:4] == name:
            return _Chunk(at + 4, at + 8, size)
        at += 8 + size + size % 2
    return None


def _after(content: Content, at: int, number: str) -> int | None:
    """Where chunks stop making sense, from the end of one on; None where all is as it should be."""
    start = at
    while at < content.size:
        if content.size - at <= _TRAILING and at > start:
            return None
        head = content.read(at, 8)
        if at % 2 and not (len(head) == 8 and _is_name(head[:4])):
            head, at = content.read(at + 1, 8), at + 1  # the byte that makes sizes even
        if len(head) < 8 or not _is_name(head[:4]):
            return at if _is_something(content, at) else None
        size = struct.unpack(number, head[4:])[0]
        if head[:4] in (b"RIFF", b"RIFX", b"FORM", b"data", b"SSND"):
            return at
        if at + 8 + size > content.size + 1:
            return at if _is_something(content, at) else None
        at += 8 + size
    return None


def _is_name(name: bytes) -> bool:
    """Whether four bytes can name a chunk."""
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _is_something(content: Content, at: int) -> bool:
    """Whether what is there is more than a short tag or padding."""
    tail = content.read(at, _TRAILING + 1)
    if len(tail) <= 1 or tail.startswith((b"TAG", b"ID3", b"APETAGEX")):
        return False
    while at < content.size:
        block = content.read(at, 1 << 18)
        if block.strip(b"\0"):
            return True
        at += len(block)
    return False


def _mended(content: Content, chunk: _Chunk, size: bytes, origin: int = 0) -> Part:
    """The file with the size of its samples as it is."""
    header = content.read(origin, chunk.start - origin)
    at = chunk.size_at - origin
    header = header[:at] + size + header[at + len(size) :]
    return Part(chunk.start, content.size, header)


def _rf64_parts(content: Content, path: Path) -> list[Part]:
    """The sizes are in "ds64": of the file, of the samples, and the number of samples."""
    sizes, chunk = content.read(12, 36), _find_chunk_64(content)
    if sizes[:4] != b"ds64" or len(sizes) < 36 or chunk is None:
        return [Part(0, content.size)]
    told = struct.unpack("<Q", sizes[16:24])[0]
    left = content.size - chunk.start
    if told in (0, (1 << 64) - 1) and left:
        header = content.read(0, chunk.start)
        mended = struct.pack("<QQQ", content.size - 8, left, 0)
        return [Part(chunk.start, content.size, header[:20] + mended + header[44:])]
    if told > left:
        raise damaged(path, f"{left} bytes where the header says {told}")
    if _after(content, chunk.start + told, "<I") is not None:
        raise _more_than_told(path, f"{left - told} bytes follow its last sample")
    return [Part(0, content.size)]


def _find_chunk_64(content: Content) -> _Chunk | None:
    return _find_chunk(content, b"data", "<I", 12)


def _caf_parts(content: Content, path: Path) -> list[Part]:
    at = 8
    while at + 12 <= content.size:
        head = content.read(at, 12)
        size = struct.unpack(">q", head[4:])[0]
        if head[:4] == b"data":
            break
        if size < 0:
            return [Part(0, content.size)]
        at += 12 + size
    else:
        return [Part(0, content.size)]
    left = content.size - at - 12
    chunk = _Chunk(at + 4, at + 12, size)
    if size in (-1, 0) and left > 4:  # -1 says "to the end of the file"
        return [_mended(content, chunk, struct.pack(">q", left))]
    if size > left:
        raise damaged(path, f"{left} bytes where the header says {size}")
    end = at + 12 + size
    if _is_something(content, end) and not _is_name(content.read(end, 4)):
        raise _more_than_told(path, f"{content.size - end} bytes follow its last sample")
    if content.read(end, 4) == b"caff":
        raise _more_than_told(path, "another CAF file begins in it")
    return [Part(0, content.size)]


def _au_part(content: Content, path: Path, origin: int) -> tuple[Part, int | None]:
    header = content.read(origin + 4, 8)
    if len(header) < 8:
        raise damaged(path, f"{content.size - origin} bytes are all of its header")
    start, size = struct.unpack(">II", header)
    end = origin + start + size
    if size == 0 and content.size > origin + start:
        chunk = _Chunk(origin + 8, origin + start, size)
        return _mended(content, chunk, b"\xff\xff\xff\xff", origin), None
    if end > content.size and not any(size in sizes for sizes in _PIPE_SIZES):
        left = content.size - origin - start
        raise damaged(path, f"{left} bytes where the header says {size}")
    if size == 0xFFFF_FFFF or end >= content.size or not _is_something(content, end):
        return Part(origin, content.size), None
    if content.read(end, 4) == b".snd":
        return Part(origin, end), end
    raise _more_than_told(path, f"{content.size - end} bytes follow its last sample")


def check_complete(file: soundfile.SoundFile, path: Path, content: Content) -> None:
    """Compares the header's length with what is there: libsndfile quietly takes the shorter."""
    if file.format == "NIST":
        header = content.read(0, 1024).decode("ascii", "replace")
        promised = re.search(r"^sample_count -i (\d+)", header, re.MULTILINE)
        if promised and int(promised[1]) > file.frames:
            raise cut_short(path, file.frames, int(promised[1]), file.samplerate)
    log = file.extra_info
    for _, promised_bytes, found_bytes in _DATA_SIZE.findall(log):
        if int(found_bytes) < int(promised_bytes) < _LENGTH_UNKNOWN:
            raise damaged(path, f"{found_bytes} bytes where the header says {promised_bytes}")
    for found, promised_frames in _FRAME_COUNT.findall(log):
        if int(found) < int(promised_frames):
            raise cut_short(path, int(found), int(promised_frames), file.samplerate)


def damaged(path: Path, reason: str) -> AudioError:
    """What is said of a file that is not whole."""
    return AudioError(
        f"{path}: the audio is damaged or cut short ({reason.strip()}); expected a whole file. "
        "Get the file again."
    )


def cut_short(path: Path, found: int, promised: int, sample_rate: int) -> AudioError:
    """What is said of a file with fewer samples than its header promises."""
    return AudioError(
        f"{path}: the audio is cut short: {found / sample_rate:.3f} s are there; expected the "
        f"{promised / sample_rate:.3f} s its header promises. Get the file again."
    )


def _more_than_told(path: Path, reason: str) -> AudioError:
    return AudioError(
        f"{path}: {reason}, of which its header says nothing; expected one recording. "
        'Read it with a program that ignores the header, such as "ffmpeg -ignore_length 1 -i IN '
        'OUT.flac", or divide it.'
    )


_CHUNKED = {
    (b"RIFF", b"WAVE"): (b"data", "<I"),
    (b"RIFX", b"WAVE"): (b"data", ">I"),
    (b"FORM", b"AIFF"): (b"SSND", ">I"),
    (b"FORM", b"AIFC"): (b"SSND", ">I"),
}
"""The chunk that holds the samples, and how its size is written."""
_BY_MAGIC: dict[bytes, Callable[[Content, Path], list[Part]]] = {
    b"RF64": _rf64_parts,
    b"BW64": _rf64_parts,
    b"caff": _caf_parts,
    b"OggS": ogg_parts,
}

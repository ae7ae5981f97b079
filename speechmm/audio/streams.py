"""Walks through the frames of MP3 and the pages of Ogg, where nothing else says how long they are.

Both are made to be joined ("cat a.mp3 b.mp3", recorded radio), and their decoders end with the first
of several, or guess the length of a stream from its first frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from speechmm.audio.content import Content, Part
from speechmm.errors import AudioError
from speechmm.files.file_cache import FileCache

_KBITS = {  # by version 1 or 2 (2.5 alike) and layer
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_SEARCHED = 1 << 16  # bytes looked through for the next frame
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_walked: FileCache[list[Part]] = FileCache(1 << 16, len)


@dataclass(frozen=True)
class _Frame:
    """One frame of MPEG audio."""

    length: int
    """Bytes."""
    samples: int
    rate: int
    """Hz."""
    layer: int
    mono: bool
    tag_at: int
    """Where "Xing" would stand in it."""

    def joins(self, other: _Frame) -> bool:
        """Whether both can be of one stream."""
        return (self.rate, self.layer, self.mono) == (other.rate, other.layer, other.mono)


def _frame(head: bytes) -> _Frame | None:
    """The frame that begins with four bytes. Source: ISO/IEC 11172-3, 2.4.2.3 and 13818-3."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate, bits = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 4 or rate == 3 or bits in (0, 15):
        return None
    hertz = _RATES[version][rate]
    first = version == 3
    kbits = _KBITS[1 if first else 2, layer][bits - 1]
    padding = head[2] >> 1 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    if layer == 1:
        length = (12000 * kbits // hertz + padding) * 4
    else:
        length = samples // 8 * 1000 * kbits // hertz + padding
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(length, samples, hertz, layer, mono, 4 + side)


def starts_mp3(content: Content) -> bool:
    """Whether a file begins, perhaps after a tag, with two frames of MPEG audio."""
    at = _skip_tags(content, 0)
    first = _frame(content.read(at, 4))
    return first is not None and _frame(content.read(at + first.length, 4)) is not None


@dataclass
class _Stream:
    """Frames that one encoder wrote."""

    start: int
    frame: _Frame
    head: bytes
    """Of its first frame."""
    promised: int | None = None
    """Frames that its Xing frame counts."""
    count: int = 0
    """Frames that are there, without the Xing frame."""
    stop: int = field(default=0)


def mp3_parts(content: Content, path: Path) -> list[Part]:
    """The streams of a file; one without a count of its frames gets it in a Xing frame before it.

    Raises:
        AudioError: A stream is not whole, or something lies between its frames.
    """
    start = _skip_tags(content, 0)
    frame = _frame(content.read(start, 4))
    assert frame is not None, path
    if frame.layer != 3 or _is_whole(content, start, frame):
        return [Part(0, content.size)]
    return _walked.get(path, content.state, lambda: _counted_parts(content, path, start, frame))


def _counted_parts(content: Content, path: Path, start: int, frame: _Frame) -> list[Part]:
    streams = list(_mp3_streams(content, path, start))
    parts = []
    for number, stream in enumerate(streams):
        if stream.promised is not None and stream.count < stream.promised:
            seconds = [
                count * frame.samples / frame.rate for count in (stream.count, stream.promised)
            ]
            raise AudioError(
                f"{path}: the audio is cut short: {seconds[0]:.3f} s are there; expected the "
                f"{seconds[1]:.3f} s its header promises. Get the file again."
            )
        if stream.count <= 1 and number:
            continue  # the frame that some encoders do not count
        prefix = b"" if stream.promised is not None else _xing_frame(stream)
        parts.append(Part(stream.start, stream.stop, prefix))
    return parts


def _mp3_streams(content: Content, path: Path, at: int) -> Iterator[_Stream]:
    stream: _Stream | None = None
    while at < content.size:
        head = content.read(at, 4)
        frame = _frame(head)
        if frame is None:
            after = _skip_tags(content, at)
            at = after if after > at else _skip_padding(content, path, at)
            continue
        if at + frame.length > content.size:
            raise AudioError(
                f"{path}: the audio is cut short: its last frame is not whole; expected a whole "
                'file. Get the file again, or keep what is there: "ffmpeg -i IN OUT.flac".'
            )
        count = _xing_count(content, at, frame)
        full = (
            stream is not None and stream.promised is not None and stream.count == stream.promised
        )
        if stream is None or count is not None or full or not stream.frame.joins(frame):
            if stream is not None and (stream.count or stream.promised):
                yield stream
            begin = at if count is None or count > 0 else at + frame.length
            stream = _Stream(begin, frame, head, count or None, 0 if count is not None else 1)
        else:
            stream.count += 1
        at += frame.length
        stream.stop = at
    if stream is not None:
        yield stream


def _skip_tags(content: Content, at: int) -> int:
    """The place after the tags there: ID3v2, ID3v1, APE."""
    while True:
        head = content.read(at, 32)
        if head[:3] == b"ID3" and len(head) >= 10:
            size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            at += 10 + size + (10 if head[5] & 16 else 0)
        elif head[:3] == b"TAG" and (
            content.size - at == 128 or _frame(content.read(at + 128, 4)) is not None
        ):
            at += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            size, flags = struct.unpack("<I4xI", head[12:24])
            at += size + 32 if flags >> 29 & 1 else 32
        else:
            return at


def _skip_padding(content: Content, path: Path, at: int) -> int:
    """The place of the next frame or tag, where only zeros lie before it."""
    block = content.read(at, _SEARCHED)
    if block.count(b"\0") == len(block):
        return at + len(block)
    zeros = len(block) - len(block.lstrip(b"\0"))
    if zeros:
        return at + zeros
    if content.size - at <= 4096 and not any(map(_frame, _windows(block))):
        return content.size  # a tag of another kind at the end
    raise AudioError(
        f"{path}: the audio is damaged or cut short (no frame of MPEG audio at byte {at}); "
        'expected one frame after another. Get the file again, or keep what can be read: "ffmpeg '
        '-i IN OUT.flac".'
    )


def _windows(block: bytes) -> Iterator[bytes]:
    """Four bytes from every place where a frame may begin."""
    at = block.find(b"\xff")
    while at >= 0:
        yield block[at : at + 4]
        at = block.find(b"\xff", at + 1)


def _xing_count(content: Content, at: int, frame: _Frame) -> int | None:
    """Frames that the Xing (Info, VBRI) frame there counts, 0 where it does not; None for others."""
    tag = content.read(at + frame.tag_at, 12)
    if tag[:4] in (b"Xing", b"Info") and len(tag) == 12:
        return int.from_bytes(tag[8:12], "big") if tag[7] & 1 else 0
    vbri = content.read(at + 36, 18)
    return int.from_bytes(vbri[14:18], "big") if vbri[:4] == b"VBRI" else None


def _is_whole(content: Content, start: int, frame: _Frame) -> bool:
    """Whether the first frame says how many bytes there are, and they are there: the usual case."""
    tag = content.read(start + frame.tag_at, 16)
    if tag[:4] not in (b"Xing", b"Info") or len(tag) < 16 or tag[7] & 3 != 3:
        return False
    told = start + int.from_bytes(tag[12:16], "big")
    slack = 2 * frame.length + 128
    return abs(content.size - told) <= slack and int.from_bytes(tag[8:12], "big") > 0


def _xing_frame(stream: _Stream) -> bytes:
    """A frame that says nothing but how many frames follow."""
    head = bytearray(stream.head)
    head[1] |= 1  # no checksum
    head[2] = 14 << 4 | head[2] & 0x0C  # the most bits, no padding
    frame = _frame(bytes(head))
    assert frame is not None
    body = bytes(head).ljust(frame.tag_at, b"\0") + b"Xing" + struct.pack(">II", 1, stream.count)
    return body.ljust(frame.length, b"\0")


def ogg_parts(content: Content, path: Path) -> list[Part]:
    """The links of a chain of Ogg streams (RFC 3533, section 4).

    Raises:
        AudioError: A page is missing or damaged, or the last stream has no end.
    """
    return _walked.get(path, content.state, lambda: _links(content, path))


def _links(content: Content, path: Path) -> list[Part]:
    starts: list[int] = []
    numbers: dict[int, int] = {}
    at, body_seen, ended = 0, True, False
    while at < content.size:
        head = content.read(at, 27 + 255)
        if len(head) < 27 or head[:4] != b"OggS" or len(head) < 27 + head[26]:
            if ended and at > 0 and not _has_page(content, at):
                break  # something else follows the last stream
            raise _broken_ogg(path, at)
        length = 27 + head[26] + sum(head[27 : 27 + head[26]])
        page = content.read(at, length)
        if len(page) < length or not _checksum_fits(page):
            raise _broken_ogg(path, at)
        serial, number = struct.unpack("<II", page[14:22])
        if page[5] & 2:  # a stream begins
            if body_seen:
                starts.append(at)
                numbers, body_seen = {}, False
        else:
            body_seen = True
            if number > numbers.get(serial, number) + 1:
                raise _broken_ogg(path, at)
        numbers[serial] = number
        ended = bool(page[5] & 4)
        at += length
    if not ended or not starts:
        raise AudioError(
            f"{path}: the audio is damaged or cut short (the last Ogg page is missing); expected a "
            "whole file. Get the file again."
        )
    return [Part(*ends) for ends in zip(starts, [*starts[1:], at], strict=True)]


def _has_page(content: Content, at: int) -> bool:
    return content.find(b"OggS", at) >= 0


def _checksum_fits(page: bytes) -> bool:
    """Ogg's checksum is zlib's of the bits in reverse order, from 0."""
    plain = page[:22] + bytes(4) + page[26:]
    found = zlib.crc32(plain.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{found:032b}"[::-1], 2) == int.from_bytes(page[22:26], "little")


def _broken_ogg(path: Path, at: int) -> AudioError:
    return AudioError(
        f"{path}: the audio is damaged or cut short (an Ogg page is missing or broken at byte "
        f"{at}); expected a whole file. Get the file again."
    )

"""Decodes the first sound of a media file packet by packet through FFmpeg (PyAV)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speechmm.audio.containers import damaged
from speechmm.audio.content import Content, Part, PartFile
from speechmm.errors import AudioError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,loas,amr,amrnb,amrwb,asf,asf_o,xwma,avi,flv,live_flv,"
    "mpegts,mpeg,ac3,eac3,dts,dtshd,truehd,mlp,ape,wv,tta,tak,mpc,mpc8,qcp,gsm,g722,g729,rm,nut,mxf,"
    "gxf,wtv,dv,nsv,oma,shn,dsf,iff,voc,caf,w64,wav,aiff,au,ogg,aa,ircam,dss,lc3,ilbc,bonk,osq,mp3"
)
"""FFmpeg's names. None of these lists other files or addresses to open, as playlists do."""
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
_TRUE_TIMES = ("mov", "matroska", "mpegts")
"""Formats whose times say where in a film a sound belongs."""
_STREAMS = ("aac", "loas", "amr", "amrnb", "amrwb", "ac3", "eac3", "dts", "mp3", "mpegts", "flv")
"""Formats without any length: where they were cut, the last packet is half a one, and is left out."""
_TRUE_LENGTHS = ("mov", "asf", "avi", "tta", "wv", "ape")
"""Formats whose header says how long the sound is; others have FFmpeg's estimate."""

Entry = tuple[int, int]
"""A packet, by its time stamp and its first byte."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """What one packet gave."""

    entry: Entry | None
    due: int | None
    """The sample at which it belongs by its time; None where times tell nothing."""
    length: int
    """Samples per channel."""
    frames: Sequence[AudioFrame] = ()

    def samples(self) -> NDArray[np.float32]:
        """The samples themselves, full scale 1, (samples, channels)."""
        return np.concatenate([_floats(frame) for frame in self.frames])


class Decoder:
    """Reads the first audio stream of a file that FFmpeg can take apart."""

    def __init__(self, content: Content, path: Path) -> None:
        """Opens it.

        Raises:
            AudioError: It is no media file, is damaged, or holds no sound.
        """
        import av

        _check_boxes(content, path)
        self._path, self._error = path, av.error.FFmpegError
        try:
            self._container = av.open(
                PartFile(content, Part(0, content.size)),
                mode="r",
                options=_OPTIONS,
                metadata_errors="replace",
                buffer_size=1 << 16,
            )
        except (self._error, ValueError) as error:
            raise _not_opened(content, path, error) from error
        self.format = self._container.format.name.split(",")[0]
        self._stream = self._first_sound()
        self._base = float(self._stream.time_base or 0)
        for stream in self._container.streams:
            if stream is not self._stream:
                stream.discard = av.stream.Discard.all
        self.sample_rate, self.channels = 0, 0
        """Hz, and number; known after the first packet with sound."""
        self.codec = self._stream.codec_context.name

    @property
    def promised(self) -> int | None:
        """Samples up to the end that the header tells; None where it tells none."""
        length = self._stream.duration
        if self.format not in _TRUE_LENGTHS or not length:
            return None
        return round((length * self._base + self._lead) * self.sample_rate)

    def packets(self) -> Iterator[Decoded]:
        """What the packets give, one after another, from where the decoder stands.

        Raises:
            AudioError: One is damaged, or the rate or the number of channels changes.
        """
        failure: AudioError | None = None
        try:
            for packet in self._container.demux(self._stream):
                if failure is not None and packet.size:  # another comes after it
                    raise failure
                try:
                    decoded = self._decoded(packet)
                except self._error as error:
                    failure = damaged(self._path, _reason(error))
                else:
                    yield decoded
        except (self._error, ValueError) as error:
            failure = damaged(self._path, _reason(error))
        if failure is not None and self.format not in _STREAMS:
            raise failure

    def seek(self, entry: Entry) -> bool:
        """Goes to a packet or to one before it; False where the file cannot be sought in."""
        try:
            self._container.seek(entry[0], stream=self._stream, backward=True)
        except (self._error, ValueError):
            return False
        return True

    def close(self) -> None:
        """Frees the decoder; the file stays open."""
        self._container.close()

    def _first_sound(self) -> AudioStream:
        sounds: list[Any] = [s for s in self._container.streams if s.type == "audio"]
        known = [stream for stream in sounds if stream.codec_context is not None]
        if not known:
            kinds = sorted({str(stream.type) for stream in self._container.streams}) or ["nothing"]
            found = "of a coding that FFmpeg does not decode" if sounds else "none"
            raise AudioError(
                f"{self._path}: the sound in it is {found} (it holds: {', '.join(kinds)}); expected "
                "a file with sound. Leave it out, or get it with sound."
            )
        if len(sounds) > 1:
            logger.warning(
                '%s: it holds %d sounds; the first is read. For another: "ffmpeg -i IN -map 0:a:1 '
                'OUT.flac"',
                self._path,
                len(sounds),
            )
        chosen: AudioStream = known[0]
        return chosen

    @property
    def _lead(self) -> float:
        """Seconds from the beginning of the film to that of the sound."""
        start = self._stream.start_time
        return 0.0 if start is None else self._in_film(start) or 0.0

    def _in_film(self, time: int) -> float | None:
        """Seconds from the beginning of the film to a time of the sound."""
        film = self._container.start_time
        return None if film is None else time * self._base - film / 1_000_000

    def _decoded(self, packet: Packet[Any]) -> Decoded:
        if packet.is_corrupt:
            raise self._error(0, "a packet is marked as damaged")
        entry = None if packet.pts is None else (packet.pts, packet.pos or 0)
        frames: list[Any] = list(packet.decode())
        if not frames:
            return Decoded(entry, None, 0)
        for frame in frames:
            kind = (frame.sample_rate, frame.layout.nb_channels)
            if not self.sample_rate:
                self.sample_rate, self.channels = kind
            if kind != (self.sample_rate, self.channels):
                raise AudioError(
                    f"{self._path}: its sound changes from {self.sample_rate} Hz, {self.channels} "
                    f"channel(s) to {kind[0]} Hz, {kind[1]} channel(s); expected one rate and number "
                    "of channels. Divide it."
                )
        due = None
        if self.format in _TRUE_TIMES and frames[0].pts is not None:
            seconds = self._in_film(frames[0].pts)
            due = None if seconds is None else round(seconds * self.sample_rate)
        return Decoded(entry, due, sum(frame.samples for frame in frames), frames)


def _floats(frame: AudioFrame) -> NDArray[np.float32]:
    """The samples of a frame, full scale 1, (samples, channels)."""
    data: NDArray[Any] = frame.to_ndarray()
    data = data.T if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels)
    if data.dtype.kind == "f":
        return data.astype(np.float32)
    if data.dtype.kind == "u":
        middle = float(np.iinfo(data.dtype).max // 2 + 1)
        return ((data.astype(np.float64) - middle) / middle).astype(np.float32)
    return (data.astype(np.float64) / -float(np.iinfo(data.dtype).min)).astype(np.float32)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _not_opened(content: Content, path: Path, error: Exception) -> AudioError:
    head = content.read(0, 16)
    magic = (b"\x1aE\xdf\xa3", b"#!AMR", b"FLV\x01", b"\x30\x26\xb2\x75", b"RIFF", b"OggS")
    if head[4:8] == b"ftyp" or head.startswith(magic):
        return damaged(path, _reason(error))
    return AudioError(
        f"{path}: it is not audio in a format libsndfile or FFmpeg reads ({_reason(error)}); expected "
        'wav, flac, mp3, m4a, mp4 or the like. Convert it, for example with "ffmpeg -i IN OUT.flac".'
    )


def _check_boxes(content: Content, path: Path) -> None:
    """Compares the sizes of the outermost parts of MP4 and Matroska files with what is there.

    Raises:
        AudioError: A part is longer than the file.
    """
    at, head = 0, content.read(0, 16)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        while at + 8 <= content.size:
            head = content.read(at, 16)
            size = struct.unpack(">I", head[:4])[0]
            if size == 1 and len(head) == 16:
                size = struct.unpack(">Q", head[8:])[0]
            if size < 8:  # to the end of the file, or no part at all
                return
            if at + size > content.size and head[4:8] in (b"mdat", b"moov", b"moof"):
                raise damaged(path, f"{content.size - at} bytes where its header says {size}")
            at += size
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        size = struct.unpack("<I", head[4:8])[0]
        if size + 8 > content.size:
            raise damaged(path, f"{content.size - 8} bytes where its header says {size}")
    if head.startswith(b"\x1aE\xdf\xa3"):
        size, at = _vint(content, 4)
        if size is None or content.read(at + size, 4) != b"\x18\x53\x80\x67":
            return
        size, at = _vint(content, at + size + 4)
        if size is not None and at + size > content.size:
            raise damaged(path, f"{content.size - at} bytes where its header says {size}")


def _vint(content: Content, at: int) -> tuple[int | None, int]:
    """A size as Matroska writes it, None where it is unknown, and the place after it."""
    data = content.read(at, 8)
    length = 9 - data[0].bit_length() if data and data[0] else 9
    if len(data) < length:
        return None, at
    size = int.from_bytes(data[:length], "big") & ((1 << (7 * length)) - 1)
    return (None if size == (1 << (7 * length)) - 1 else size), at + length

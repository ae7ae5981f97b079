"""Reads audio: all libsndfile and FFmpeg read, mono, at the rate asked for, or an error that says why.

Nothing is cut in silence: a file that holds less than its header promises is an error, as is a
sample that is not a number.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.channels import check_channels, choose_columns
from speechmm.audio.containers import (
    check_complete,
    check_one_flac,
    cut_short,
    damaged,
    find_parts,
)
from speechmm.audio.content import Content, Part, PartFile
from speechmm.audio.media import MediaFile
from speechmm.audio.media_extra import INSTALL, media_installed
from speechmm.audio.resample import resample_blocks
from speechmm.errors import AudioError
from speechmm.files.archives import find_member, read_member
from speechmm.files.file_cache import FileCache
from speechmm.files.pipes import is_pipe, read_pipe
from speechmm.timing import samples_to_seconds, seconds_to_samples

LOUDEST = 64.0
"""Full scale is 1; more than this is floats on the scale of integers."""
RATES = (1000, 768_000)
"""Lowest and highest in Hz; outside of these a rate is a mistake."""
_END_TOLERANCE = 0.025  # seconds by which a rounded time may pass the end of the file
_BLOCK_SECONDS = 30.0
_MP3_FRAME = 1152  # samples: what decoders may drop or add at the end of an mp3
_UNKNOWN = ("not recognised", "Unrecognised", "nimplemented", "nsupported", "in flac decoder")
_chosen_columns: FileCache[tuple[int, ...]] = FileCache(1 << 16)
_counted: FileCache[int] = FileCache(1 << 16)


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    path: Path
    sample_rate: int
    """Hz."""
    channels: int
    num_samples: int
    """Samples per channel."""
    duration: float
    """Seconds."""
    format: str
    """Name of the container, such as "WAV", "FLAC" or "NIST"; "MOV" is that of m4a and mp4, too."""
    subtype: str
    """Name of the coding, such as "PCM_16" or "AAC"."""


def audio_info(path: str | Path) -> AudioInfo:
    """The header of an audio file, without decoding it.

    Raises:
        AudioError: The file is missing, empty, of length zero, cut short (as far as the header
            tells) or not audio.
    """
    with _open(Path(path)) as (_, pieces):
        return _info(pieces, Path(path))


def read_audio(
    path: str | Path,
    *,
    sample_rate: int,
    start: float = 0.0,
    duration: float | None = None,
    channels: Sequence[int] | None = None,
) -> Float[Tensor, " samples"]:
    """Reads a file, or a part of it, as mono at the given rate.

    Channels are averaged; where they cancel each other, the loudest is taken (`choose_columns`).
    Full scale is 1; files of floats and lossy files may exceed it a little.

    Args:
        path: Any file libsndfile reads, or FFmpeg where the extra ``media`` is installed.
        sample_rate: Wanted rate in Hz; the file may have any.
        start: Where to begin, in seconds.
        duration: How much to read, in seconds; None reads to the end.
        channels: Those to average, counted from 0; None takes all.

    Raises:
        AudioError: The file is missing, empty, of length zero, cut short, not audio, holds samples
            that are not finite, has no such channel, or ends before the part asked for.
    """
    span = _Span(start, duration, None if channels is None else tuple(channels))
    return torch.cat(list(_resampled(Path(path), sample_rate, span, _BLOCK_SECONDS)))


def iter_audio(
    path: str | Path,
    *,
    sample_rate: int,
    channels: Sequence[int] | None = None,
    block_seconds: float = _BLOCK_SECONDS,
) -> Iterator[Float[Tensor, " samples"]]:
    """Reads a file of any length block by block, in bounded memory.

    The blocks, joined, are what :func:`read_audio` gives for the whole file.

    Args:
        path: Any file libsndfile reads, or FFmpeg where the extra ``media`` is installed.
        sample_rate: Wanted rate in Hz.
        channels: Those to average, counted from 0; None takes all.
        block_seconds: Length of a block, about; the last one is what is left.

    Raises:
        AudioError: As :func:`read_audio`; damage is met when its place in the file is reached.
    """
    span = _Span(channels=None if channels is None else tuple(channels))
    for block in _resampled(Path(path), sample_rate, span, block_seconds):
        if len(block):
            yield block


@dataclass(frozen=True)
class _Span:
    """What is asked for of a file."""

    start: float = 0.0
    """Seconds."""
    duration: float | None = None
    """Seconds; None reaches to the end."""
    channels: tuple[int, ...] | None = None
    """None means all."""

    @property
    def is_whole(self) -> bool:
        """Whether the file is read from its beginning to its end."""
        return self.start == 0 and self.duration is None


@dataclass(frozen=True)
class _Piece:
    """A part of a file with its decoder."""

    file: soundfile.SoundFile | MediaFile
    num_samples: int
    slack: int
    """Samples that the decoder may give less."""


@contextmanager
def _open(path: Path, *, whole: bool = False) -> Iterator[tuple[Content, list[_Piece]]]:
    """Opens a file by its content, whatever its name; every failure is an AudioError.

    Args:
        path: The file.
        whole: It will be read to its end: also look for what only a search through it shows.
    """
    with ExitStack() as stack:
        source = _source(path, stack)
        content = Content(source)
        if content.size == 0:
            raise AudioError(f"{path}: the file is empty; expected audio. Get the file again.")
        try:
            if whole:
                check_one_flac(content, path)
            try:
                pieces = _pieces(content, path, source, stack)
            except soundfile.LibsndfileError as error:
                pieces = [_media_piece(content, path, stack, error)]
            yield content, pieces
        except (soundfile.LibsndfileError, TypeError) as error:
            raise damaged(path, _reason(error)) from error


def _pieces(content: Content, path: Path, source: int | bytes, stack: ExitStack) -> list[_Piece]:
    """The parts of a file that libsndfile reads."""
    pieces = []
    for part in find_parts(content, path):
        plain = part == Part(0, content.size) and isinstance(source, int)
        name = source if plain else PartFile(content, part)
        file = stack.enter_context(soundfile.SoundFile(name, closefd=False))
        if plain or not part.prefix:
            check_complete(file, path, content)
        slack = _MP3_FRAME * (4 if part.prefix else 1)
        is_mpeg = file.format.startswith("MP")
        pieces.append(_Piece(file, _length(file, content, path, part), slack if is_mpeg else 0))
    return pieces


def _media_piece(content: Content, path: Path, stack: ExitStack, error: Exception) -> _Piece:
    """The sound of a file that libsndfile does not read, if it may be one of FFmpeg's."""
    reason = _reason(error)
    if not any(sign in reason for sign in _UNKNOWN):
        raise damaged(path, reason) from error
    if not media_installed():
        raise AudioError(
            f"{path}: it is not audio in a format libsndfile reads ({reason}); expected wav, flac, "
            f"ogg, mp3, sph or the like; m4a, mp4, webm and others it needs {INSTALL}. Install "
            'that, or convert it, for example with "ffmpeg -i IN OUT.flac".'
        ) from error
    file = MediaFile(content, path)
    stack.callback(file.close)
    return _Piece(file, file.frames, 0)


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip()


def _source(path: Path, stack: ExitStack) -> int | bytes:
    """A descriptor, closed with the stack; of a pipe, and of a file in an archive, its bytes."""
    member = find_member(path)
    if member is not None:
        return read_member(*member, error=AudioError)
    if path.is_dir():
        raise AudioError(f"{path}: it is a folder; expected an audio file. Name the files in it.")
    try:
        if is_pipe(path):
            return read_pipe(path)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise AudioError(
            f"{path}: there is no such file; expected an audio file. Check the path."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(
            f"{path}: cannot be opened ({reason}); expected a readable audio file. "
            "Check its name and permissions."
        ) from error
    stack.callback(os.close, descriptor)
    return descriptor


def _info(pieces: Sequence[_Piece], path: Path) -> AudioInfo:
    num_samples = sum(piece.num_samples for piece in pieces)
    if num_samples == 0:
        raise AudioError(
            f"{path}: it holds no samples; expected audio of some length. "
            "Record it again or remove it."
        )
    forms = {(piece.file.samplerate, piece.file.channels) for piece in pieces}
    if len(forms) > 1:
        listed = "; ".join(f"{rate} Hz, {channels} channel(s)" for rate, channels in sorted(forms))
        raise AudioError(
            f"{path}: recordings of different kinds were joined in it ({listed}); expected one "
            "rate and number of channels. Divide it."
        )
    file = pieces[0].file
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise AudioError(
            f"{path}: its sample rate is {file.samplerate} Hz; expected {RATES[0]} to "
            f"{RATES[1]}. Correct its header."
        )
    return AudioInfo(
        path=path,
        sample_rate=file.samplerate,
        channels=file.channels,
        num_samples=num_samples,
        duration=samples_to_seconds(num_samples, file.samplerate),
        format=file.format,
        subtype=file.subtype,
    )


def _length(file: soundfile.SoundFile, content: Content, path: Path, part: Part) -> int:
    """Samples per channel; counted by decoding where the header of a stream leaves it open."""
    if file.frames < 1 << 62:
        return int(file.frames)
    file.seekable = lambda: False  # soundfile seeks after reading, which fails at such an end
    return _counted.get(path, content.state, lambda: _count(file), part.start)


def _count(file: soundfile.SoundFile) -> int:
    count = 0
    while read := len(file.read(1 << 18, dtype="float32")):
        count += read
    file.seek(0)
    return count


def _resampled(path: Path, sample_rate: int, span: _Span, block_seconds: float) -> Iterator[Tensor]:
    blocks = _read_blocks(path, span, block_seconds)
    rate, first = next(blocks)
    waveforms = chain([first], (block for _, block in blocks))
    return resample_blocks(waveforms, from_rate=rate, to_rate=sample_rate)


def _read_blocks(path: Path, wanted: _Span, block_seconds: float) -> Iterator[tuple[int, Tensor]]:
    """Pairs of sample rate and mono block, at the file's own rate; at least one pair."""
    with _open(path, whole=wanted.is_whole) as (content, pieces):
        info = _info(pieces, path)
        columns = _columns(path, content, info.channels, wanted.channels)
        first, last = _span(info, wanted.start, wanted.duration)
        block_samples = max(1, seconds_to_samples(block_seconds, info.sample_rate))
        for frames, position in _frames(pieces, info, first, last, block_samples):
            yield info.sample_rate, _downmix(frames, columns, path, position)


def _frames(
    pieces: Sequence[_Piece], info: AudioInfo, first: int, last: int, block_samples: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks of samples of all channels, each with the number of the sample after it."""
    before = 0
    for piece in pieces:
        begin, end = max(first - before, 0), min(last - before, piece.num_samples)
        if begin < end:
            if begin:
                piece.file.seek(begin)
            position = begin
            while position < end:
                frames = piece.file.read(
                    min(block_samples, end - position), "float32", always_2d=True
                )
                if len(frames) == 0:
                    break
                position += len(frames)
                yield frames, before + position
            if end - position > (piece.slack if position > begin else 0):
                raise cut_short(info.path, before + position, before + end, info.sample_rate)
        before += piece.num_samples


def _columns(
    path: Path, content: Content, there: int, channels: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """The channels to average, of those that are there; None where a file has but one."""
    wanted = check_channels(range(there) if channels is None else channels, there, path)
    if there == 1:
        return None
    if len(wanted) == 1:
        return wanted
    return _chosen_columns.get(path, content.state, lambda: _choose(path, wanted), wanted)


def _choose(path: Path, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """What `choose_columns` says of a whole file: the same for every part of it."""
    with _open(path) as (_, pieces):
        info = _info(pieces, path)
        blocks = _frames(pieces, info, 0, info.num_samples, info.sample_rate)
        return tuple(choose_columns((frames for frames, _ in blocks), wanted, path))


def _span(info: AudioInfo, start: float, duration: float | None) -> tuple[int, int]:
    """First sample and the one after the last, checked against the file's length."""
    first = seconds_to_samples(start, info.sample_rate)
    last = info.num_samples
    if duration is not None:
        last = seconds_to_samples(start + duration, info.sample_rate)
    tolerance = seconds_to_samples(_END_TOLERANCE, info.sample_rate)
    if first < 0 or last <= first or last > info.num_samples + tolerance:
        end = "its end" if duration is None else f"{start + duration:g} s"
        raise AudioError(
            f"{info.path}: the part from {start:g} s to {end} was asked for; expected a part of "
            f"its {info.duration:g} s. Correct the times, or get the whole file."
        )
    return min(first, info.num_samples - 1), min(last, info.num_samples)


def _downmix(
    frames: np.ndarray, columns: tuple[int, ...] | None, path: Path, position: int
) -> Tensor:
    """The average of the channels, checked to be finite and on the scale of [-1, 1]."""
    peak = float(np.abs(frames).max())
    if not np.isfinite(peak):
        raise AudioError(
            f"{path}: a sample before number {position} is not a finite number; expected samples "
            "in [-1, 1]. Write the file again without NaN and infinity."
        )
    if peak > LOUDEST:
        raise AudioError(
            f"{path}: a sample has the value {peak:g}; expected samples in [-1, 1]. "
            "Divide by full scale (32768 for 16 bits) before writing floats."
        )
    if columns is None:
        mono = frames[:, 0]
    elif len(columns) == frames.shape[1]:
        mono = frames.mean(axis=1)
    else:
        mono = frames[:, list(columns)].mean(axis=1)
    return torch.from_numpy(np.ascontiguousarray(mono))

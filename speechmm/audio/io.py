"""Reads audio: all libsndfile reads, mono, at the rate asked for, or an error that says why.

Nothing is cut in silence: a file that holds less than its header promises is an error, as is a
sample that is not a number.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.resample import resample_blocks
from speechmm.errors import AudioError
from speechmm.timing import samples_to_seconds, seconds_to_samples

_END_TOLERANCE = 0.025  # seconds by which a rounded time may pass the end of the file
_BLOCK_SECONDS = 30.0
_LOUDEST = 64.0  # full scale is 1; more than this is a file of floats on the scale of integers
_LENGTH_UNKNOWN = 0x7FFF_0000  # a size from here on in a 32-bit header means "written to a pipe"
_MP3_FRAME = 1152  # samples: what decoders may drop or add at the end of an mp3
_DATA_SIZE = re.compile(
    r"^\s*(data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
_FRAME_COUNT = re.compile(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)")


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
    """libsndfile's name of the container, such as "WAV", "FLAC" or "NIST"."""
    subtype: str
    """libsndfile's name of the coding, such as "PCM_16"."""


def audio_info(path: str | Path) -> AudioInfo:
    """The header of an audio file, without decoding it.

    Raises:
        AudioError: The file is missing, empty, of length zero, cut short (as far as the header
            tells) or not audio.
    """
    with _open(Path(path)) as file:
        return _info(file, Path(path))


def read_audio(
    path: str | Path, *, sample_rate: int, start: float = 0.0, duration: float | None = None
) -> Float[Tensor, " samples"]:
    """Reads a file, or a part of it, as mono at the given rate.

    Channels are averaged. Full scale is 1; files of floats and lossy files may exceed it a little.

    Args:
        path: Any file libsndfile reads.
        sample_rate: Wanted rate in Hz; the file may have any.
        start: Where to begin, in seconds.
        duration: How much to read, in seconds; None reads to the end.

    Raises:
        AudioError: The file is missing, empty, of length zero, cut short, not audio, holds samples
            that are not finite, or ends before the part asked for.
    """
    return torch.cat(list(_resampled(Path(path), sample_rate, start, duration, _BLOCK_SECONDS)))


def iter_audio(
    path: str | Path, *, sample_rate: int, block_seconds: float = _BLOCK_SECONDS
) -> Iterator[Float[Tensor, " samples"]]:
    """Reads a file of any length block by block, in bounded memory.

    The blocks, joined, are what :func:`read_audio` gives for the whole file.

    Args:
        path: Any file libsndfile reads.
        sample_rate: Wanted rate in Hz.
        block_seconds: Length of a block, about; the last one is what is left.

    Raises:
        AudioError: As :func:`read_audio`; damage is met when its place in the file is reached.
    """
    for block in _resampled(Path(path), sample_rate, 0.0, None, block_seconds):
        if len(block):
            yield block


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    """Opens a file by its content, whatever its name; every failure is an AudioError."""
    descriptor = _open_descriptor(path)
    try:
        with soundfile.SoundFile(descriptor, closefd=False) as file:
            _check_complete(file, path, descriptor)
            yield file
    except (soundfile.LibsndfileError, TypeError) as error:
        raise _damaged(path, str(getattr(error, "error_string", error))) from error
    finally:
        os.close(descriptor)


def _open_descriptor(path: Path) -> int:
    if path.is_dir():
        raise AudioError(f"{path}: it is a folder; expected an audio file. Name the files in it.")
    try:
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
    if os.fstat(descriptor).st_size == 0:
        os.close(descriptor)
        raise AudioError(f"{path}: the file is empty; expected audio. Get the file again.")
    return descriptor


def _damaged(path: Path, reason: str) -> AudioError:
    if "not recognised" in reason or "Unrecognised" in reason or "nimplemented" in reason:
        return AudioError(
            f"{path}: it is not audio in a format libsndfile reads ({reason.strip()}); "
            "expected wav, "
            'flac, ogg, mp3, sph or the like. Convert it, for example with "ffmpeg -i IN OUT.flac".'
        )
    return AudioError(
        f"{path}: the audio is damaged or cut short ({reason.strip()}); expected a whole file. "
        "Get the file again."
    )


def _info(file: soundfile.SoundFile, path: Path) -> AudioInfo:
    num_samples = _length(file)
    if num_samples == 0:
        raise AudioError(
            f"{path}: it holds no samples; expected audio of some length. "
            "Record it again or remove it."
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


def _length(file: soundfile.SoundFile) -> int:
    """Samples per channel; counted by decoding where the header of a stream leaves it open."""
    if file.frames < 1 << 62:
        return int(file.frames)
    file.seekable = lambda: False  # soundfile seeks after reading, which fails at such an end
    count = 0
    while read := len(file.read(1 << 18, dtype="float32")):
        count += read
    file.seek(0)
    return count


def _resampled(
    path: Path, sample_rate: int, start: float, duration: float | None, block_seconds: float
) -> Iterator[Tensor]:
    blocks = _read_blocks(path, start, duration, block_seconds)
    rate, first = next(blocks)
    waveforms = chain([first], (block for _, block in blocks))
    return resample_blocks(waveforms, from_rate=rate, to_rate=sample_rate)


def _read_blocks(
    path: Path, start: float, duration: float | None, block_seconds: float
) -> Iterator[tuple[int, Tensor]]:
    """Pairs of sample rate and mono block, at the file's own rate; at least one pair."""
    with _open(path) as file:
        info = _info(file, path)
        first, last = _span(info, start, duration)
        if first:
            file.seek(first)
        block_samples = max(1, seconds_to_samples(block_seconds, info.sample_rate))
        position = first
        while position < last:
            frames = file.read(min(block_samples, last - position), "float32", always_2d=True)
            if len(frames) == 0:
                break
            position += len(frames)
            yield info.sample_rate, _downmix(frames, path, position)
        missing = last - position
        if missing > (_MP3_FRAME if info.format.startswith("MP") and position > first else 0):
            raise _cut_short(path, position, last, info.sample_rate)


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


def _downmix(frames: np.ndarray, path: Path, position: int) -> Tensor:
    """The average of the channels, checked to be finite and on the scale of [-1, 1]."""
    peak = float(np.abs(frames).max())
    if not np.isfinite(peak):
        raise AudioError(
            f"{path}: a sample before number {position} is not a finite number; expected samples "
            "in [-1, 1]. Write the file again without NaN and infinity."
        )
    if peak > _LOUDEST:
        raise AudioError(
            f"{path}: a sample has the value {peak:g}; expected samples in [-1, 1]. "
            "Divide by full scale (32768 for 16 bits) before writing floats."
        )
    mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1)
    return torch.from_numpy(np.ascontiguousarray(mono))


def _check_complete(file: soundfile.SoundFile, path: Path, descriptor: int) -> None:
    """Compares the header's length with what is there: libsndfile quietly takes the shorter."""
    if file.format == "NIST":
        header = os.pread(descriptor, 1024, 0).decode("ascii", "replace")
        promised = re.search(r"^sample_count -i (\d+)", header, re.MULTILINE)
        if promised and int(promised[1]) > file.frames:
            raise _cut_short(path, file.frames, int(promised[1]), file.samplerate)
    if file.format == "OGG" and not _ogg_ends(descriptor):
        raise _damaged(path, "the last Ogg page is missing")
    log = file.extra_info
    for _, promised_bytes, found_bytes in _DATA_SIZE.findall(log):
        if int(found_bytes) < int(promised_bytes) < _LENGTH_UNKNOWN:
            raise _damaged(path, f"{found_bytes} bytes where the header says {promised_bytes}")
    for found, promised_frames in _FRAME_COUNT.findall(log):
        if int(found) < int(promised_frames):
            raise _cut_short(path, int(found), int(promised_frames), file.samplerate)


def _ogg_ends(descriptor: int) -> bool:
    """Whether the last page of an Ogg file is whole and marked so (RFC 3533, section 6)."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(
        descriptor, 1 << 17, max(0, size - (1 << 17))
    )  # a page has at most 65,307 bytes
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    body = sum(page[27 : 27 + page[26]])
    return bool(page[5] & 4) and len(page) >= 27 + page[26] + body


def _cut_short(path: Path, found: int, promised: int, sample_rate: int) -> AudioError:
    return AudioError(
        f"{path}: the audio is cut short: {found / sample_rate:.3f} s are there; expected the "
        f"{promised / sample_rate:.3f} s its header promises. Get the file again."
    )

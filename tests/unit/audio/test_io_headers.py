"""Files whose header and content do not agree: streams, sphere files, compressed containers."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmm.audio import io
from speechmm.audio.io import audio_info, iter_audio, read_audio
from speechmm.errors import AudioError

RATE = 16000
SAMPLES = np.random.default_rng(1).uniform(-0.5, 0.5, 3 * RATE)


def save(path: Path, subtype: str | None = None, **kind: str) -> bytearray:
    """Writes three seconds of noise and gives the file's content."""
    soundfile.write(path, SAMPLES, RATE, subtype=subtype, **kind)
    return bytearray(path.read_bytes())


def check_whole(path: Path, error: float = 1 / 30_000) -> None:
    assert audio_info(path).num_samples == len(SAMPLES)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), SAMPLES, atol=error)


@pytest.mark.parametrize(
    ("subtype", "endian", "error"),
    [
        ("PCM_16", "LITTLE", 1e-4),
        ("PCM_16", "BIG", 1e-4),
        ("PCM_24", "BIG", 1e-4),
        ("ULAW", "FILE", 0.02),
        ("ALAW", "FILE", 0.02),
    ],
)
def test_sphere(tmp_path: Path, subtype: str, endian: str, error: float) -> None:
    path = tmp_path / "a.sph"
    content = save(path, subtype, format="NIST", endian=endian)
    assert content.startswith(b"NIST_1A\n   1024\n")
    assert audio_info(path).format == "NIST"
    check_whole(path, error)
    assert len(read_audio(path, sample_rate=8000, start=0.5, duration=1.0)) == 8000


@pytest.mark.parametrize("lost", [1, 2, 30_000])
def test_sphere_cut_short(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.sph"
    path.write_bytes(save(path, "PCM_16", format="NIST")[:-lost])
    with pytest.raises(AudioError, match=r"a\.sph: the audio is cut short: .* its header promises"):
        read_audio(path, sample_rate=RATE)
    with pytest.raises(AudioError, match="cut short"):
        audio_info(path)


def test_sphere_with_shorten_compression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.sph"
    header, samples = save(path, "PCM_16", format="NIST")[:1024], path.read_bytes()[1024:]
    coding = b"sample_coding -s26 pcm,embedded-shorten-v2.00\n"
    changed = header.replace(b"sample_coding -s3 pcm\n", coding).rstrip(b"\0 ").ljust(1024)
    path.write_bytes(changed + samples)
    with pytest.raises(AudioError, match=r"a\.sph: it is not audio in a format .* Convert it"):
        read_audio(path, sample_rate=RATE)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_wav_that_was_written_to_a_pipe(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    content = save(path)
    content[4:8] = content[40:44] = size.to_bytes(4, "little")
    path.write_bytes(content)
    check_whole(path)


@pytest.mark.parametrize("lost", [1, 2, 1000])
def test_wav_that_lacks_a_little(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(save(path)[:-lost])
    with pytest.raises(AudioError, match="bytes where the header says 96000"):
        read_audio(path, sample_rate=RATE)


def test_wav_with_something_after_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(save(path) + b"LIST\4\0\0\0abcd")
    check_whole(path)


def without_length(content: bytearray) -> bytearray:
    """A FLAC file whose header does not say how many samples it has."""
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples, and the checksum
    content[22:42] = bytes(20)
    return content


def test_a_stream_is_counted_once_for_all_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(without_length(save(path)))
    counts = []
    count = io._count
    monkeypatch.setattr(io, "_count", lambda file: counts.append(0) or count(file))
    whole = read_audio(path, sample_rate=RATE)
    for start in (0.1, 0.3, 0.2):
        part = read_audio(path, sample_rate=RATE, start=start, duration=0.1)
        first = round(start * RATE)
        assert part.equal(whole[first : first + len(part)])
    assert len(counts) == 1


@pytest.mark.parametrize("block_seconds", [0.3, 3.0, 10.0])
def test_flac_of_unknown_length(tmp_path: Path, block_seconds: float) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(without_length(save(path)))
    check_whole(path)
    blocks = list(iter_audio(path, sample_rate=RATE, block_seconds=block_seconds))
    assert sum(map(len, blocks)) == len(SAMPLES)


@pytest.mark.parametrize(("format", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS")])
@pytest.mark.parametrize("lost", [1, 100, 10_000])
def test_ogg_without_its_last_page(tmp_path: Path, format: str, subtype: str, lost: int) -> None:
    path = tmp_path / "a.ogg"
    content = save(path, subtype, format=format)
    assert len(read_audio(path, sample_rate=RATE)) == len(SAMPLES)
    path.write_bytes(content[:-lost])
    with pytest.raises(AudioError, match="cut short"):
        read_audio(path, sample_rate=RATE)


def test_mp3(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    content = save(path, "MPEG_LAYER_III", format="MP3")
    assert len(read_audio(path, sample_rate=RATE)) == len(SAMPLES)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match="the audio is cut short"):
        read_audio(path, sample_rate=RATE)


@pytest.mark.parametrize(("format", "suffix"), [("CAF", "caf"), ("W64", "w64"), ("RF64", "wav")])
def test_large_file_containers(tmp_path: Path, format: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    content = save(path, "PCM_16", format=format)
    check_whole(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match="cut short"):
        read_audio(path, sample_rate=RATE)

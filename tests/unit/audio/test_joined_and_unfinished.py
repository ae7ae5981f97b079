"""Files whose header tells of less than they hold: joined, streamed, never finished; and pipes."""

import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmm.audio import streams
from speechmm.audio.io import audio_info, iter_audio, read_audio
from speechmm.errors import AudioError

RATE = 16000
FIRST, SECOND = (
    np.random.default_rng(seed).uniform(-0.5, 0.5, length)
    for seed, length in ((1, 48000), (2, 37000))
)


def coded(path: Path, samples: np.ndarray, format: str, subtype: str | None = None) -> bytes:
    soundfile.write(path, samples, RATE, format=format, subtype=subtype)
    return path.read_bytes()


def without_xing(content: bytes) -> bytes:
    """An mp3 without its first frame, which counts the others."""
    return content[content.index(b"\xff\xf3", content.index(b"Xing")) :]


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("WAV", "PCM_16"), ("AU", "PCM_16")],
)
def test_joined_files_are_read_whole(tmp_path: Path, format: str, subtype: str | None) -> None:
    path = tmp_path / "a"
    parts = [coded(path, samples, format, subtype) for samples in (FIRST, SECOND)]
    alone = []
    for part in parts:
        path.write_bytes(part)
        alone.append(read_audio(path, sample_rate=RATE).numpy())
    path.write_bytes(b"".join(parts))
    assert audio_info(path).num_samples == 85000
    together = read_audio(path, sample_rate=RATE).numpy()
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
    if format in ("WAV", "AU", "OGG"):
        across = read_audio(path, sample_rate=RATE, start=2.5, duration=1.0)
        np.testing.assert_allclose(across, together[40000:56000], atol=1e-4)
    blocks = list(iter_audio(path, sample_rate=RATE, block_seconds=0.7))
    assert sum(map(len, blocks)) == 85000


@pytest.mark.parametrize("format", ["WAV", "AU", "AIFF"])
def test_many_joined_files_are_read_whole(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(coded(path, FIRST[:160], format, "PCM_16") * 1500)
    read = read_audio(path, sample_rate=RATE).numpy().reshape(1500, 160)
    np.testing.assert_allclose(read, np.tile(FIRST[:160], (1500, 1)), atol=1e-4)


def test_joined_flac_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(coded(path, FIRST, "FLAC") + coded(path, SECOND, "FLAC"))
    with pytest.raises(AudioError, match="another FLAC file begins in it"):
        read_audio(path, sample_rate=RATE)


def test_joined_rates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, SECOND, 8000, format="OGG")
    path.write_bytes(path.read_bytes() + coded(tmp_path / "b", FIRST, "OGG"))
    with pytest.raises(AudioError, match="different kinds were joined"):
        audio_info(path)


@pytest.mark.parametrize("silence", [0, 40_000])
def test_mp3_that_nobody_counted(tmp_path: Path, silence: int) -> None:
    """Its length follows from its frames, not from the bit rate of the first."""
    path = tmp_path / "a.mp3"
    samples = np.concatenate([np.zeros(silence), FIRST])
    soundfile.write(path, samples, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0)
    path.write_bytes(without_xing(path.read_bytes()))
    length = audio_info(path).num_samples
    assert len(samples) <= length <= len(samples) + 4 * 576
    assert length - 4 * 576 <= len(read_audio(path, sample_rate=RATE)) <= length
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(AudioError, match="cut short"):
        audio_info(path)


def test_mp3_that_ends_within_its_count(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    frame = b"\xff\xf3\x10\x00".ljust(26, b"\0")  # 22050 Hz, 8 kbit/s
    path.write_bytes(frame + frame[:21] + b"Xing\0")
    assert audio_info(path).num_samples == 2 * 576 - 529  # what decoders are late by


def test_mp3_after_one_that_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    counted = coded(path, FIRST, "MP3")
    path.write_bytes(counted + without_xing(coded(path, SECOND, "MP3")))
    assert 85000 <= audio_info(path).num_samples <= 85000 + 4 * 576


@pytest.mark.parametrize("format", ["MP3", "OGG"])
def test_a_file_is_walked_through_once_for_all_its_parts(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    content = coded(path, FIRST, format)
    path.write_bytes(without_xing(content) if format == "MP3" else content)
    walks = []
    name = "_mp3_streams" if format == "MP3" else "_checksum_fits"
    walk = getattr(streams, name)
    monkeypatch.setattr(streams, name, lambda *given: walks.append(0) or walk(*given))
    whole = read_audio(path, sample_rate=RATE)
    once = len(walks)
    assert once
    for start in (0.0, 0.5, 1.0, 2.0):
        part = read_audio(path, sample_rate=RATE, start=start, duration=0.5)
        first = round(start * RATE)
        np.testing.assert_allclose(part, whole[first : first + 8000], atol=2e-2)
    assert len(walks) == once
    content = coded(path, SECOND, format)
    path.write_bytes(without_xing(content) if format == "MP3" else content)
    assert 37000 <= audio_info(path).num_samples < 37000 + 4 * 576
    assert len(walks) > once


def test_ogg_with_a_broken_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    content = bytearray(coded(path, FIRST, "OGG"))
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(AudioError, match="an Ogg page is missing or broken"):
        audio_info(path)


@pytest.mark.parametrize("riff", [0, 36, 96036])
@pytest.mark.parametrize("size", [0, 1000, 48001])
def test_wav_that_was_never_finished(tmp_path: Path, riff: int, size: int) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(coded(path, FIRST, "WAV", "PCM_16"))
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", size)
    path.write_bytes(content)
    assert audio_info(path).num_samples == 48000
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), FIRST, atol=1e-4)


def test_wav_with_more_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(coded(path, FIRST, "WAV", "PCM_16") + bytes(range(256)) * 40)
    with pytest.raises(AudioError, match="bytes follow its last sample"):
        audio_info(path)


@pytest.mark.parametrize("size", [2_400_000, 3_000_000_000])
def test_wav_that_claims_more_than_is_there(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(coded(path, FIRST, "WAV", "PCM_16"))
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    with pytest.raises(AudioError, match="cut short"):
        audio_info(path)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_au_of_unknown_length(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.au"
    content = bytearray(coded(path, FIRST, "AU", "PCM_16"))
    content[8:12] = struct.pack(">I", size)
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), FIRST, atol=1e-4)


@pytest.mark.parametrize("content", [b".snd\0\0", b"RF64????WAVEds64\0\0\0\0data\0\0\0\0"])
def test_a_header_cut_short(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(AudioError, match="Get the file again"):
        audio_info(path)


@pytest.mark.parametrize("size", [0, -1])
def test_caf_of_unknown_length(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.caf"
    content = bytearray(coded(path, FIRST, "CAF", "PCM_16"))
    at = content.index(b"data") + 4
    content[at : at + 8] = struct.pack(">q", size)
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), FIRST, atol=1e-4)


@pytest.mark.parametrize("size", [0, (1 << 64) - 1])
def test_rf64_of_unknown_length(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(coded(path, FIRST, "RF64", "PCM_16"))
    content[28:36] = struct.pack("<Q", size)
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), FIRST, atol=1e-4)


@pytest.mark.parametrize("rate", [1, 999, 2_147_483_647])
def test_absurd_sample_rates_are_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(coded(path, FIRST, "WAV", "PCM_16"))
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"sample rate is {rate} Hz; expected 1000 to 768000"):
        read_audio(path, sample_rate=RATE)


@pytest.mark.parametrize("turned", [-1.0, -0.97])
def test_channels_that_cancel_each_other(
    tmp_path: Path, turned: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([FIRST, turned * FIRST], axis=1), RATE)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), FIRST, atol=1e-4)
    part = read_audio(path, sample_rate=RATE, start=1.0, duration=0.5)
    np.testing.assert_allclose(part, FIRST[16000:24000], atol=1e-4)
    assert caplog.text.count("channel 0 alone is read") == 1


def test_channels_that_cancel_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    other = np.concatenate([FIRST[:24000], -FIRST[24000:]])
    soundfile.write(path, np.stack([FIRST, other], axis=1), RATE)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), FIRST, atol=1e-4)


def test_chosen_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    rows = [FIRST[:37000], SECOND, FIRST[:37000] / 2]
    soundfile.write(path, np.stack(rows, axis=1), RATE)
    second = read_audio(path, sample_rate=RATE, channels=[1])
    np.testing.assert_allclose(second, SECOND, atol=1e-4)
    two = read_audio(path, sample_rate=RATE, channels=[0, 1])
    np.testing.assert_allclose(two, (rows[0] + rows[1]) / 2, atol=1e-4)
    with pytest.raises(
        AudioError, match="channel 3 was asked for, and it has 3; expected one of 0"
    ):
        read_audio(path, sample_rate=RATE, channels=[3])


def test_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = coded(tmp_path / "a.flac", FIRST, "FLAC")
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    assert audio_info(pipe).num_samples == 48000
    writer.join()
    np.testing.assert_allclose(read_audio(pipe, sample_rate=RATE), FIRST, atol=1e-4)

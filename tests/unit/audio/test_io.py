"""Reading audio: what people have on their disks, and what is wrong with it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmm.audio.files import find_audio
from speechmm.audio.io import audio_info, iter_audio, read_audio
from speechmm.errors import AudioError

RATE = 16000


def tone(seconds: float, sample_rate: int, hertz: float = 440.0) -> np.ndarray:
    """A sine of amplitude 0.5."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return 0.5 * np.sin(2 * np.pi * hertz * time)


def save(
    path: Path, samples: np.ndarray, sample_rate: int = RATE, subtype: str | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sample_rate, subtype=subtype)
    return path


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_any_rate_becomes_the_wanted_one(tmp_path: Path, sample_rate: int) -> None:
    path = save(tmp_path / "a.wav", tone(1.0, sample_rate), sample_rate, "FLOAT")
    waveform = read_audio(path, sample_rate=RATE)
    assert waveform.dtype == torch.float32 and waveform.shape == (RATE,)
    inner = slice(800, -800)  # the filter rings where the tone is switched on and off
    np.testing.assert_allclose(waveform[inner], tone(1.0, RATE)[inner], atol=5e-3)


@pytest.mark.parametrize(
    ("suffix", "subtype", "error"),
    [
        (".wav", "PCM_U8", 1 / 100),
        (".wav", "PCM_16", 1 / 30_000),
        (".wav", "PCM_24", 1e-6),
        (".wav", "PCM_32", 1e-6),
        (".wav", "FLOAT", 1e-6),
        (".wav", "DOUBLE", 1e-6),
        (".wav", "ULAW", 0.03),
        (".flac", "PCM_16", 1 / 30_000),
        (".flac", "PCM_24", 1e-6),
        (".aiff", "PCM_16", 1 / 30_000),
        (".au", "PCM_16", 1 / 30_000),
        (".ogg", "VORBIS", 0.05),
    ],
)
def test_any_coding_has_full_scale_one(
    tmp_path: Path, suffix: str, subtype: str, error: float
) -> None:
    samples = tone(0.5, RATE)
    path = save(tmp_path / f"a{suffix}", samples, RATE, subtype)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), samples, atol=error)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    samples = np.stack([tone(0.2, RATE, 200.0 * (n + 1)) for n in range(channels)], axis=1)
    path = save(tmp_path / "a.wav", samples, RATE, "FLOAT")
    assert audio_info(path).channels == channels
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), samples.mean(axis=1), atol=1e-6)


def test_info(tmp_path: Path) -> None:
    path = save(tmp_path / "a.flac", tone(1.5, 8000), 8000)
    info = audio_info(path)
    assert (info.path, info.sample_rate, info.num_samples) == (path, 8000, 12000)
    assert (info.duration, info.format, info.subtype) == (1.5, "FLAC", "PCM_16")


def test_twenty_milliseconds(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(0.02, 8000), 8000)
    assert read_audio(path, sample_rate=RATE).shape == (320,)


def test_one_sample(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", np.array([0.25]))
    assert read_audio(path, sample_rate=RATE).tolist() == [0.25]


@pytest.mark.parametrize(
    "name",
    ["a b.wav", "ünï 日本.flac", 'it\'s "x" %20.wav', "-v.wav", "a.b.c.WAV", "no suffix", "a.mp3"],
)
def test_odd_names_and_wrong_suffixes(tmp_path: Path, name: str) -> None:
    samples = tone(0.1, RATE)
    path = tmp_path / name
    shutil.move(save(tmp_path / "made.wav", samples), path)
    np.testing.assert_allclose(read_audio(path, sample_rate=RATE), samples, atol=1e-4)
    assert torch.equal(read_audio(str(path), sample_rate=RATE), read_audio(path, sample_rate=RATE))


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    try:
        shutil.move(save(tmp_path / "made.wav", tone(0.1, RATE)), path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert read_audio(path, sample_rate=RATE).shape == (1600,)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_part_of_a_file(tmp_path: Path, sample_rate: int) -> None:
    path = save(tmp_path / "a.wav", tone(2.0, sample_rate), sample_rate, "FLOAT")
    whole = read_audio(path, sample_rate=sample_rate)
    part = read_audio(path, sample_rate=sample_rate, start=0.5, duration=0.25)
    assert torch.equal(part, whole[sample_rate // 2 : sample_rate * 3 // 4])
    assert len(read_audio(path, sample_rate=RATE, start=1.5)) == RATE // 2
    with pytest.raises(AudioError, match=r"from 1\.5 s to 3 s was asked for; expected a part of"):
        read_audio(path, sample_rate=RATE, start=1.5, duration=1.5)
    with pytest.raises(AudioError, match="was asked for"):
        read_audio(path, sample_rate=RATE, start=5.0)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("block_seconds", [0.05, 0.333, 10.0])
def test_blocks_join_to_the_whole(tmp_path: Path, sample_rate: int, block_seconds: float) -> None:
    noise = np.random.default_rng(1).uniform(-0.9, 0.9, (round(1.2345 * sample_rate), 2))
    path = save(tmp_path / "a.wav", noise, sample_rate)
    blocks = list(iter_audio(path, sample_rate=RATE, block_seconds=block_seconds))
    whole = read_audio(path, sample_rate=RATE)
    torch.testing.assert_close(torch.cat(blocks), whole, atol=1e-6, rtol=0)
    assert all(len(block) for block in blocks)
    assert max(map(len, blocks)) <= (block_seconds + 0.1) * RATE


def cut_off(path: Path, share: float) -> Path:
    """The file without its end."""
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    return path


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".aiff", ".au"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 3 * RATE)
    path = cut_off(save(tmp_path / f"a{suffix}", noise), share)
    with pytest.raises(AudioError, match=r"a\.\w+: .*cut short"):
        read_audio(path, sample_rate=RATE)
    with pytest.raises(AudioError, match="cut short"):
        list(iter_audio(path, sample_rate=RATE, block_seconds=0.5))


def test_damaged_flac(tmp_path: Path) -> None:
    path = save(tmp_path / "a.flac", np.random.default_rng(1).uniform(-0.5, 0.5, 3 * RATE))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(content)
    with pytest.raises(AudioError, match="damaged or cut short"):
        read_audio(path, sample_rate=RATE)


def test_missing(tmp_path: Path) -> None:
    for read in (audio_info, lambda path: read_audio(path, sample_rate=RATE)):
        with pytest.raises(AudioError, match=r"none\.wav: there is no such file"):
            read(tmp_path / "none.wav")


def test_not_audio(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("these are words\n" * 100)
    (tmp_path / "short.wav").write_bytes(b"RIFF")
    save(tmp_path / "zero.wav", np.zeros(0))
    save(tmp_path / "zero.flac", np.zeros(0))
    for name, message in {
        "empty.wav": "the file is empty",
        "text.wav": "it is not audio",
        "short.wav": "short.wav",
        "zero.wav": "it holds no samples",
        "zero.flac": r"zero\.flac: ",
        ".": "it is a folder",
    }.items():
        with pytest.raises(AudioError, match=message):
            read_audio(tmp_path / name, sample_rate=RATE)
        with pytest.raises(AudioError, match=message):
            audio_info(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(0.1, RATE))
    path.chmod(0)
    with pytest.raises(AudioError, match="cannot be opened"):
        read_audio(path, sample_rate=RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(tmp_path: Path, value: float) -> None:
    samples = tone(0.5, RATE)
    samples[4000] = value
    path = save(tmp_path / "a.wav", samples, RATE, "FLOAT")
    with pytest.raises(AudioError, match="is not a finite number"):
        read_audio(path, sample_rate=RATE)
    with pytest.raises(AudioError, match="is not a finite number"):
        list(iter_audio(path, sample_rate=RATE, block_seconds=0.1))


def test_floats_on_the_scale_of_integers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", 32768 * tone(0.5, RATE), RATE, "FLOAT")
    with pytest.raises(AudioError, match="Divide by full scale"):
        read_audio(path, sample_rate=RATE)


def test_find_audio(tmp_path: Path) -> None:
    for name in ("b.wav", "a/c.FLAC", "a/.hidden.wav", ".cache/d.wav"):
        save(tmp_path / name, tone(0.01, RATE))
    (tmp_path / "a" / "notes.txt").write_text("no audio")
    (tmp_path / "folder.wav").mkdir()
    assert find_audio(tmp_path) == [tmp_path / "a/c.FLAC", tmp_path / "b.wav"]
    with pytest.raises(AudioError, match="there is no such folder"):
        find_audio(tmp_path / "none")

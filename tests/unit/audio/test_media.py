"""The sound of media files: as long as it was, where it was, and an error where it is not whole."""

import logging
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmm.audio import media
from speechmm.audio.io import audio_info, iter_audio, read_audio
from speechmm.errors import AudioError
from speechmm.files.file_cache import FileCache

av = pytest.importorskip("av")
RATE = 16000
SECONDS = 6
CODERS = {  # suffix: coder, its rate, samples by which header or coder may shift or lengthen
    "m4a": ("aac", 44100, 0),
    "mp4": ("aac", RATE, 0),
    "mov": ("aac", 48000, 0),
    "3gp": ("aac", RATE, 0),
    "mkv": ("aac", 48000, 1024),
    "webm": ("libopus", 48000, 0),
    "wv": ("wavpack", RATE, 0),
    "tta": ("tta", RATE, 0),
    "aac": ("aac", RATE, 3 * 1024),
    "ac3": ("ac3", 48000, 2 * 1536),
    "amr": ("libopencore_amrnb", 8000, 2 * 160),
    "wma": ("wmav2", 44100, 2 * 2048),
    "ts": ("aac", 48000, 3 * 1024),
    "avi": ("mp3", 44100, 3 * 1152),
}


def speech(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """Sounds like speech as far as a coder can tell: tones that come and go, a click each second."""
    time = np.arange(round(seconds * rate)) / rate
    tones = np.sin(2 * np.pi * 300 * time) + np.sin(2 * np.pi * 1100 * time * (1 + 0.001 * time))
    samples = 0.1 * tones * np.abs(np.sin(np.pi * 2.5 * time))
    for second in range(int(seconds)):
        samples[second * rate + rate // 2 :][:40] += 0.6
    return samples.astype(np.float32)


def write(
    path: Path,
    sounds: list[np.ndarray],
    coder: str,
    rate: int,
    *,
    delay: float = 0.0,
    video: bool = False,
    starts: dict[int, float] | None = None,
) -> Path:
    """A media file with one mono stream for each sound, perhaps beside moving pictures."""
    with av.open(str(path), "w") as file:
        streams = [file.add_stream(coder, rate=rate, layout="mono") for _ in sounds]
        picture = file.add_stream("mpeg4", rate=5) if video else None
        if coder == "wmav2":
            streams[0].bit_rate = 64000
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
            blank = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            for number in range(5 * SECONDS):
                blank.pts, blank.time_base = number, Fraction(1, 5)
                file.mux(picture.encode(blank))
            file.mux(picture.encode(None))
        for stream, sound in zip(streams, sounds, strict=True):
            format = stream.codec_context.format.name
            to_format = av.AudioResampler(format=format, layout="mono", rate=rate)
            for start in range(0, len(sound), rate):
                frame = av.AudioFrame.from_ndarray(
                    sound[None, start : start + rate], format="fltp", layout="mono"
                )
                later = (starts or {}).get(start // rate, 0.0)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start + round((delay + later) * rate)
                for part in to_format.resample(frame):
                    file.mux(stream.encode(part))
            file.mux(stream.encode(None))
    return path


def lag(found: np.ndarray, made: np.ndarray, rate: int) -> float:
    """Seconds by which a sound is later than another."""
    size = 1 << (len(found) + len(made)).bit_length()
    product = np.fft.rfft(found, size) * np.conj(np.fft.rfft(made, size))
    peak = int(np.fft.irfft(product, size).argmax())
    return (peak if peak < size // 2 else peak - size) / rate


@pytest.mark.parametrize("suffix", CODERS)
def test_length_and_place(tmp_path: Path, suffix: str) -> None:
    coder, rate, slack = CODERS[suffix]
    made = speech(rate)
    path = write(tmp_path / f"a.{suffix}", [made], coder, rate)
    info = audio_info(path)
    assert (info.sample_rate, info.channels) == (rate, 1)
    assert abs(info.num_samples - len(made)) <= (slack or 1)
    found = read_audio(path, sample_rate=rate).numpy()
    assert len(found) == info.num_samples
    assert sum(map(len, iter_audio(path, sample_rate=rate, block_seconds=0.7))) == len(found)
    assert abs(lag(found, made, rate)) < (0.001 if slack in (0, 1024) else slack / rate)


@pytest.mark.parametrize("suffix", ["m4a", "mkv", "webm", "aac", "amr", "wma", "ts", "avi", "tta"])
def test_a_part_is_found_to_the_sample(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coder, rate, _ = CODERS[suffix]
    path = write(tmp_path / f"a.{suffix}", [speech(rate, 15)], coder, rate)
    whole = read_audio(path, sample_rate=rate).numpy()
    entered = []
    enter = media.MediaFile._entered

    def noted(self: media.MediaFile, sample: int) -> object:
        blocks = enter(self, sample)
        entered.append(blocks is not None)
        return blocks

    monkeypatch.setattr(media.MediaFile, "_entered", noted)
    for start in (0.3, 9.123, 14.2):
        first = round(start * rate)
        part = read_audio(path, sample_rate=rate, start=start, duration=0.6).numpy()
        there = whole[first : first + len(part)]
        assert lag(part, there, rate) == 0
        assert np.abs(part - there).mean() < 1e-3  # AAC writes some noise anew each time
    assert entered == [False, True, True]


def test_a_long_part_is_read_from_its_place(tmp_path: Path) -> None:
    rate = 8000
    path = write(tmp_path / "a.m4a", [speech(rate, 90)], "aac", rate)
    info = audio_info(path)
    part = read_audio(path, sample_rate=rate, start=80.0).numpy()
    assert len(part) == info.num_samples - 80 * rate
    clicks = np.flatnonzero(part > 0.4)
    assert abs(clicks[0] / rate - 0.5) < 0.001


def test_the_sound_of_a_film_keeps_its_time(tmp_path: Path) -> None:
    rate = 44100
    for name in ("a.mp4", "a.mkv", "a.ts"):
        made = speech(rate)
        late = write(tmp_path / name, [made], "aac", rate, video=True, delay=0.5)
        found = read_audio(late, sample_rate=rate).numpy()
        assert abs(lag(found, made, rate) - 0.5) < (0.03 if name == "a.ts" else 0.001)
        assert np.abs(found[: round(0.4 * rate)]).max() == 0


def test_a_gap_is_silence(tmp_path: Path) -> None:
    rate, made = 48000, speech(48000)
    gaps = dict.fromkeys(range(3, SECONDS), 2.0)
    path = write(tmp_path / "a.mkv", [made], "pcm_s16le", rate, starts=gaps)
    found = read_audio(path, sample_rate=rate).numpy()
    assert abs(len(found) - (len(made) + 2 * rate)) < 0.01 * rate
    assert abs(lag(found[: 3 * rate], made[: 3 * rate], rate)) < 0.001
    assert abs(lag(found[5 * rate :], made[3 * rate :], rate)) < 0.001
    assert np.abs(found[round(3.1 * rate) : round(4.9 * rate)]).max() == 0


def test_the_first_of_several_sounds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sounds = [speech(RATE), 0.1 * speech(RATE)]
    path = write(tmp_path / "a.mkv", sounds, "pcm_s16le", RATE)
    with caplog.at_level(logging.WARNING):
        found = read_audio(path, sample_rate=RATE).numpy()
    np.testing.assert_allclose(found, sounds[0], atol=1e-3)
    assert "it holds 2 sounds; the first is read" in caplog.text


def test_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    left, right = speech(RATE), np.flip(speech(RATE)).copy()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        both = np.stack([left, right], axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            (both * 32767).astype(np.int16), format="s16", layout="stereo"
        )
        frame.sample_rate, frame.pts = RATE, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert audio_info(path).channels == 2
    found = read_audio(path, sample_rate=RATE, channels=[1]).numpy()
    np.testing.assert_allclose(found, right, atol=1e-3)


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "mkv", "webm", "wma", "avi", "tta"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    coder, rate, _ = CODERS[suffix]
    path = write(tmp_path / f"a.{suffix}", [speech(rate)], coder, rate)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match=r"cut short.* Get the file again\."):
        read_audio(path, sample_rate=rate)


@pytest.mark.parametrize("suffix", ["aac", "amr", "ts"])
def test_a_stream_may_end_anywhere(tmp_path: Path, suffix: str) -> None:
    coder, rate, _ = CODERS[suffix]
    path = write(tmp_path / f"a.{suffix}", [speech(rate)], coder, rate)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 + 7])
    assert 0.3 * SECONDS < audio_info(path).duration < 0.7 * SECONDS


def test_an_absurd_duration(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", [speech(RATE)], "aac", RATE)
    content = bytearray(path.read_bytes())
    for box, skip in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24), (b"elst", 12)):
        at = content.index(box) + skip
        content[at : at + 4] = struct.pack(">I", 0x7FFF_FFFF)
    path.write_bytes(content)
    assert len(read_audio(path, sample_rate=RATE)) == pytest.approx(SECONDS * RATE, abs=1024)


def test_no_sound(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [], "aac", RATE, video=True)
    with pytest.raises(AudioError, match=r"the sound in it is none \(it holds: video\); expected"):
        audio_info(path)


def test_a_changing_rate(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / f"{rate}.aac", [speech(rate, 2)], "aac", rate) for rate in (RATE, 44100)
    ]
    path = tmp_path / "a.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(AudioError, match=r"changes from 16000 Hz, 1 .* to 44100 Hz, .* Divide it"):
        read_audio(path, sample_rate=RATE)


@pytest.mark.parametrize("name", ["a.mp4", "a.m4a", "a.amr"])
def test_what_is_no_media(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "b.ts"
    write(secret, [speech(48000, 1)], "aac", 48000)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    for content in (b"hello " * 500, playlist.encode(), bytes(5000)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError, match=r"not audio in a format libsndfile or FFmpeg reads"):
            audio_info(tmp_path / name)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.m4a", [speech(RATE)], "aac", RATE)
    monkeypatch.setattr("speechmm.audio.io.media_installed", lambda: False)
    with pytest.raises(
        AudioError, match=r"it needs pip install 'speechmm\[media\]'\. Install that"
    ):
        read_audio(path, sample_rate=RATE)


def test_a_name_that_tells_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", [speech(RATE)], "aac", RATE)
    odd = path.rename(tmp_path / "http:notes.txt")
    assert audio_info(odd).subtype == "AAC"


def test_an_altered_file_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", [speech(RATE)], "aac", RATE)
    assert audio_info(path).num_samples == SECONDS * RATE
    write(path, [speech(RATE, 3)], "aac", RATE)
    assert audio_info(path).num_samples == 3 * RATE


def test_threads_read_more_files_than_there_are_notes_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "_kept", FileCache(2))
    paths = [write(tmp_path / f"{n}.m4a", [speech(RATE, 1 + n)], "aac", RATE) for n in range(5)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: audio_info(path).num_samples, paths * 40))
    assert found == [RATE * (1 + n) for n in range(5)] * 40


def test_pyav_is_loaded_only_when_needed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speech(RATE), RATE)
    code = (
        "import sys; from speechmm.audio.io import audio_info; audio_info(sys.argv[1]);"
        "print('av' in sys.modules)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "a.wav")]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "False"

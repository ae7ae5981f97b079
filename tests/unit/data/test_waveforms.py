"""The audio of cuts: spans, channels, rates, speeds, and files that have changed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut, MultiCut, Recording

from speechmm.audio.io import read_audio
from speechmm.audio.resample import perturb_speed
from speechmm.data.manifest import make_cut, read_cuts, write_cuts
from speechmm.data.waveforms import load_waveform
from speechmm.errors import AudioError, ManifestError

MakeAudio = Callable[..., Path]
MakeCuts = Callable[..., list[MonoCut]]


def test_a_span_is_that_part_of_the_file(make_audio: MakeAudio) -> None:
    path = make_audio("a.wav", 2.0, channels=2)
    cut = make_cut(id="x", audio=path, text="", start=0.5, duration=0.75)
    whole = torch.from_numpy(soundfile.read(path, dtype="float32")[0].mean(axis=1))
    assert torch.equal(load_waveform(cut, 16000), whole[8000:20000])


def test_resampled(make_audio: MakeAudio) -> None:
    cut = make_cut(id="x", audio=make_audio("a.wav", 1.0, rate=44100), text="")
    assert load_waveform(cut, 16000).shape == (16000,)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_of_a_whole_file(factor: float, make_cuts: MakeCuts, tmp_path: Path) -> None:
    (cut,) = make_cuts(1.3)
    fast = cut.perturb_speed(factor)
    write_cuts([fast], tmp_path / "fast.jsonl")
    for each in (fast, read_cuts(tmp_path / "fast.jsonl")[0]):
        expected = perturb_speed(load_waveform(cut, 16000), factor, 16000)
        assert torch.equal(load_waveform(each, 16000), expected)
        assert abs(len(expected) - each.num_samples) <= 1


def test_speed_of_a_span(make_audio: MakeAudio) -> None:
    path = make_audio("a.wav", 3.0)
    cut = make_cut(id="x", audio=path, text="", start=1.0, duration=1.1).perturb_speed(1.1)
    part = read_audio(path, sample_rate=16000, start=1.0, duration=1.1)
    got = load_waveform(cut, 16000)
    assert abs(len(got) - 16000) <= 1
    assert torch.allclose(got[:15990], perturb_speed(part, 1.1, 16000)[:15990], atol=1e-5)


def test_speeds_multiply(make_cuts: MakeCuts) -> None:
    (cut,) = make_cuts(1.0)
    assert len(load_waveform(cut.perturb_speed(0.5).perturb_speed(2.0), 16000)) == 16000


def test_other_transforms_are_refused(make_cuts: MakeCuts) -> None:
    (cut,) = make_cuts(1.0)
    with pytest.raises(
        ManifestError, match="the transform Volume; expected Speed, Resample or none"
    ):
        load_waveform(cut.perturb_volume(2.0), 16000)


def test_audio_that_is_no_file_is_refused(make_cuts: MakeCuts) -> None:
    (cut,) = make_cuts(1.0)
    cut.recording.sources[0].type = "command"
    with pytest.raises(ManifestError, match=r"its audio is \['command'\]; expected one file"):
        load_waveform(cut, 16000)


def test_file_shorter_than_its_manifest(make_cuts: MakeCuts, make_audio: MakeAudio) -> None:
    (cut,) = make_cuts(1.0)
    make_audio("0.wav", 0.5)
    with pytest.raises(ManifestError, match=r"gives 0.50 s of audio; expected the 1.00 s"):
        load_waveform(cut, 16000)


def test_missing_file(make_cuts: MakeCuts) -> None:
    (cut,) = make_cuts(1.0)
    Path(cut.recording.sources[0].source).unlink()
    with pytest.raises(AudioError, match=r"0\.wav"):
        load_waveform(cut, 16000)


def test_the_channel_of_a_cut(tmp_path) -> None:
    """A cut of lhotse's has its own channel; one of several has their average."""
    path = tmp_path / "call.wav"
    left, right = (np.sin(np.arange(16000) / step) / 4 for step in (5, 9))
    soundfile.write(path, np.stack([left, right], axis=1), 16000)
    recording = Recording.from_file(path)
    for channel, expected in ((0, left), (1, right)):
        cut = MonoCut("c", start=0, duration=1.0, channel=channel, recording=recording)
        np.testing.assert_allclose(load_waveform(cut, 16000), expected, atol=1e-4)
    both = MultiCut("c", start=0, duration=1.0, channel=[0, 1], recording=recording)
    np.testing.assert_allclose(load_waveform(both, 16000), (left + right) / 2, atol=1e-4)
    none = MonoCut("c", start=0, duration=1.0, channel=2, recording=recording)
    with pytest.raises(AudioError, match="channel 2 was asked for, and it has 2"):
        load_waveform(none, 16000)


def test_resampling_is_no_change(tmp_path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.sin(np.arange(44100) / 20) / 4, 44100)
    cut = Recording.from_file(path).to_cut()
    resampled = cut.resample(16000)
    np.testing.assert_allclose(load_waveform(resampled, 16000), load_waveform(cut, 16000))

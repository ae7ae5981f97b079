"""A vocoder's log-mel of the toolkit's own: as librosa makes it, in every form; what differs is refused."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.errors import CheckpointError, ConfigError
from speechmm.models.vocoder_mel import VocoderMel, read_description

BANDS = LogMelConfig(n_mels=40, n_fft=512, win_length=512, hop_length=128, f_min=60.0, f_max=7000.0)
PATH = Path("vocoder")


def speech_like(seconds: float = 1.0) -> torch.Tensor:
    """A voice of noise and harmonics, louder and softer."""
    generator = torch.Generator().manual_seed(0)
    times = torch.arange(round(16_000 * seconds)) / 16_000
    noise = torch.randn(len(times), generator=generator)
    return 0.1 * noise * (1.2 + torch.sin(2 * math.pi * 3 * times))


def by_librosa(samples: torch.Tensor, *, power: int, norm: str | None) -> torch.Tensor:
    found = librosa.feature.melspectrogram(
        y=samples.numpy(), sr=16_000, n_fft=512, hop_length=128, win_length=512, n_mels=40,
        fmin=60.0, fmax=7000.0, power=power, norm=norm, center=True, pad_mode="constant",
    )  # fmt: skip
    return torch.from_numpy(found.T)


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("log", ["natural", "10"])
@pytest.mark.parametrize("magnitude", ["power", "amplitude"])
def test_every_form_is_that_of_librosa(magnitude: str, log: str, norm: str | None):
    samples = speech_like()
    truth = by_librosa(samples, power=2 if magnitude == "power" else 1, norm=norm)
    expected = truth.clamp(min=1e-5).log() / (math.log(10) if log == "10" else 1.0)
    form = VocoderMel(bands=BANDS, magnitude=magnitude, log=log, norm=norm)
    found = form.of(compute_log_mel(samples, BANDS))
    assert found.shape == expected.shape
    difference = (found - expected) * (math.log(10) if log == "10" else 1.0)
    if magnitude == "power":
        assert difference.abs().max() < 2e-3
    else:  # estimated: right in the mean, a quarter of a decibel or so off in a band
        assert abs(difference.mean()) < 0.05
        assert difference.abs().mean() < 0.12


def test_nothing_is_below_the_floor():
    silence = torch.full((3, 40), -60.0)
    for form in (
        VocoderMel(bands=BANDS),
        VocoderMel(bands=BANDS, log="10", floor=1e-4, norm=None),
    ):
        least = math.log(form.floor) / (math.log(10) if form.log == "10" else 1.0)
        torch.testing.assert_close(form.of(silence), torch.full((3, 40), least))


def test_names_of_others_are_understood():
    theirs = {"sampling_rate": 22050, "num_mels": 80, "n_fft": 1024, "hop_size": 256,
              "win_size": 1024, "fmin": 0, "fmax": 8000, "segment_size": 8192}  # fmt: skip
    found = VocoderMel.from_json(theirs)
    assert found == VocoderMel(
        bands=LogMelConfig(
            sample_rate=22050, n_fft=1024, win_length=1024, hop_length=256, f_max=8000.0
        )
    )
    assert VocoderMel.from_json(asdict(BANDS) | {"norm": None, "log": "10", "center": True}) == (
        VocoderMel(bands=BANDS, norm=None, log="10", center=True)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_fft": 1024}, "n_fft 1024 and not 512"),
        ({"win_length": 400}, "win_length 400 and not 512"),
        ({"hop_length": 160}, "hop_length 160 and not 128"),
        ({"n_mels": 80}, "n_mels 80 and not 40"),
        ({"f_min": 0.0}, "f_min 0 and not 60"),
        ({"f_max": None}, "f_max 8000 and not 7000"),
        ({"sample_rate": 22050}, "sample_rate 22050 and not 16000"),
        ({"f_min": 0.0, "n_mels": 80}, "n_mels 80 and not 40, f_min 0 and not 60"),
    ],
)
def test_other_bands_are_refused(change: dict, said: str):
    with pytest.raises(ConfigError, match=said) as raised:
        VocoderMel(bands=replace(BANDS, **change)).check(BANDS, PATH)
    assert str(raised.value).startswith("vocoder: the vocoder's log-mel has ")
    assert "\n" not in str(raised.value)


def test_an_edge_left_open_is_half_the_rate():
    VocoderMel(bands=replace(BANDS, f_max=8000.0)).check(replace(BANDS, f_max=None), PATH)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mel_scale": "htk"}, "mel_scale: found 'htk'; expected 'slaney'"),
        ({"log": "e"}, "log: found 'e'; expected 'natural' or '10'"),
        ({"log": 10}, "log: found '10' of type int"),
        ({"magnitude": "dB"}, "expected 'power' or 'amplitude'"),
        ({"norm": "area"}, "expected 'slaney' or null"),
        ({"floor": 0}, "floor: found 0"),
        ({"floor": "1e-5"}, "floor: found '1e-5' of type str"),
        ({"center": 1}, "center: found"),
        ({"n_mels": None}, "there is no n_mels"),
        ({"hop_length": "256"}, "hop_length: found '256' of type str"),
        ({"sample_rate": 16000.5}, "sample_rate: found"),
        ({"n_mels": -1}, "n_mels is -1"),
        ({"f_min": 9000}, "f_min"),
    ],
)
def test_wrong_descriptions_are_refused(change: dict, said: str):
    with pytest.raises(CheckpointError) as raised:
        read_description(PATH, asdict(BANDS) | change)
    assert said in str(raised.value)
    assert str(raised.value).startswith("vocoder: ")
    assert "\n" not in str(raised.value)


def test_what_a_graph_must_say_may_not_be_left_out():
    with pytest.raises(CheckpointError, match="there is no magnitude"):
        read_description(PATH, asdict(BANDS) | {"log": "10"}, ("log", "magnitude"))


def test_values_are_float32():
    assert (
        VocoderMel(bands=BANDS).of(torch.zeros(2, 40, dtype=torch.float64)).dtype == torch.float32
    )
    assert np.isfinite(VocoderMel(bands=BANDS).of(torch.full((2, 40), -1e9)).numpy()).all()

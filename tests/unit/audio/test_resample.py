"""Resampling against torchaudio, whole and in blocks, and speed perturbation."""

import math

import pytest
import torch
import torchaudio

from speechmm.audio import resample as resampling
from speechmm.audio.resample import perturb_speed, resample, resample_blocks
from speechmm.errors import ConfigError

USUAL_RATES = [8000, 11025, 22050, 44100, 48000]
ODD_RATES = [16001, 22255, 44101]  # without a large divisor in common with 16000


def noise(samples: int) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(samples))


@pytest.mark.parametrize("from_rate", USUAL_RATES)
@pytest.mark.parametrize("samples", [1, 7, 5003])
def test_equals_torchaudio(from_rate: int, samples: int) -> None:
    expected = torchaudio.functional.resample(noise(samples).double(), from_rate, 16000)
    found = resample(noise(samples), from_rate=from_rate, to_rate=16000)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("down", "up"), [(441, 160), (160, 441), (10, 9), (9, 10)])
@pytest.mark.parametrize("samples", [1, 7, 500, 40_001])
def test_both_ways_of_computing_agree(
    down: int, up: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = resample(noise(samples), from_rate=down, to_rate=up)
    monkeypatch.setattr(resampling, "_LARGEST_KERNEL", 0)
    found = resample(noise(samples), from_rate=down, to_rate=up)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("from_rate", ODD_RATES)
def test_a_tone_at_an_odd_rate_stays_in_tune(from_rate: int) -> None:
    def tone(sample_rate: int) -> torch.Tensor:
        seconds = torch.arange(2 * sample_rate, dtype=torch.float64) / sample_rate
        return (0.5 * torch.sin(2 * math.pi * 1000 * seconds)).float()

    found = resample(tone(from_rate), from_rate=from_rate, to_rate=16000)
    assert len(found) == 32000
    torch.testing.assert_close(found[200:-200], tone(16000)[200:-200], atol=5e-3, rtol=0)


@pytest.mark.parametrize("from_rate", USUAL_RATES + ODD_RATES)
@pytest.mark.parametrize("block", [100, 5000, 50_000])
def test_blocks_join_to_the_whole(from_rate: int, block: int) -> None:
    waveform = noise(2 * from_rate // 3 + 17)
    whole = resample(waveform, from_rate=from_rate, to_rate=16000)
    joined = list(resample_blocks(waveform.split(block), from_rate=from_rate, to_rate=16000))
    torch.testing.assert_close(torch.cat(joined), whole, atol=1e-5, rtol=0)


def test_nothing_and_nothing_to_do() -> None:
    assert len(resample(torch.zeros(0), from_rate=8000, to_rate=16000)) == 0
    assert torch.equal(resample(noise(50), from_rate=8000, to_rate=8000), noise(50))


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 1.0333, 2.0])
@pytest.mark.parametrize("samples", [1, 160, 4001])
def test_speed_changes_length_as_manifests_expect(factor: float, samples: int) -> None:
    from lhotse.utils import perturb_num_samples

    assert len(perturb_speed(noise(samples), factor, 16000)) == perturb_num_samples(samples, factor)


def test_speed_raises_the_pitch() -> None:
    seconds = torch.arange(16000) / 16000
    faster = perturb_speed(torch.sin(2 * math.pi * 1000 * seconds), 1.1, 16000)
    spectrum = torch.fft.rfft(faster * torch.hann_window(len(faster))).abs()
    assert int(spectrum.argmax()) * 16000 / len(faster) == pytest.approx(1100, abs=2)
    assert torch.equal(perturb_speed(seconds, 1.0, 16000), seconds)


@pytest.mark.parametrize("factor", [0.0, -1.0, 9.0, math.nan])
def test_impossible_speeds(factor: float) -> None:
    with pytest.raises(ConfigError, match=r"speed factor: .*expected 0\.2 to 5"):
        perturb_speed(noise(10), factor, 16000)

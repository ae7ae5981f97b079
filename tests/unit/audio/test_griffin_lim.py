"""From log-mel back to sound, and the pitch of sound."""

import math

import numpy as np
import pytest
import torch

from speechmm.audio.griffin_lim import bin_power, griffin_lim, within_full_scale
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel, log_mel_on
from speechmm.audio.pitch import track_pitch
from speechmm.inference.synthesis.vocoders import GriffinLim

CONFIGS = {
    "16 kHz": LogMelConfig(n_fft=1024, win_length=1024, hop_length=256),
    "22 kHz": LogMelConfig(sample_rate=22050, n_fft=1024, win_length=1024, hop_length=256),
    "8 kHz, short window": LogMelConfig(
        sample_rate=8000, n_mels=40, n_fft=512, win_length=256, hop_length=64
    ),
}


def vowel(rate: int, seconds: float = 0.6, hertz: float = 140.0) -> torch.Tensor:
    """A falling voice with overtones, soft at either end."""
    time = torch.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * torch.cumsum(hertz * (1.0 - 0.2 * time / seconds) / rate, dim=0)
    tones = [torch.sin(k * phase) / k for k in range(1, 15) if k * hertz < rate / 2]
    return 0.2 * torch.stack(tones).sum(dim=0) * torch.sin(np.pi * time / seconds)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_sound_comes_back_from_its_log_mel(config: LogMelConfig):
    asked = compute_log_mel(vowel(config.sample_rate), config)
    samples = griffin_lim(asked, config)
    assert len(samples) == (len(asked) - 1) * config.hop_length
    assert samples.dtype == torch.float32
    made = compute_log_mel(samples, config)
    loud = asked > asked.max() - 7.0  # 30 dB
    assert (made - asked)[loud].abs().mean() < 0.2
    assert torch.equal(samples, griffin_lim(asked, config))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_fourier_bins_add_up_to_their_bands(config: LogMelConfig):
    asked = compute_log_mel(vowel(config.sample_rate), config)
    power = bin_power(asked.exp(), config)
    assert power.shape == (len(asked), config.n_fft // 2 + 1)
    assert (power > 0).all()
    bands = log_mel_on(config, torch.device("cpu")).bands[::2]
    loud = asked > asked.max() - 12.0
    assert ((power @ bands).log() - asked)[loud].abs().mean() < 0.1


def test_nothing_random_is_used_up_and_nothing_is_too_loud():
    config = CONFIGS["16 kHz"]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    samples = griffin_lim(torch.full((20, 80), 9.0), config)
    assert torch.equal(torch.rand(3), expected)
    assert samples.abs().max() > 1.0
    assert within_full_scale(samples).abs().max() == pytest.approx(1.0)
    assert torch.equal(
        within_full_scale(0.1 * samples / samples.abs().max()).abs().max(), torch.tensor(0.1)
    )


def test_sentences_of_a_loud_voice_keep_their_levels():
    """One scale for all: each on its own would be as loud as full scale."""
    config = CONFIGS["16 kHz"]
    loud, louder = (torch.full((40, 80), level) for level in (7.0, 9.0))
    whole = GriffinLim(config)([loud, louder])
    assert whole.abs().max() == pytest.approx(1.0)
    half = 40 * config.hop_length
    ratio = whole[half:].square().mean() / whole[:half].square().mean()
    assert 10 * ratio.log10() == pytest.approx(20.0 / math.log(10), abs=1.0)  # 2 nats of power


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
def test_a_few_frames_are_enough(frames: int):
    config = CONFIGS["16 kHz"]
    samples = griffin_lim(torch.full((frames, 80), -4.0), config)
    assert len(samples) == (frames - 1) * config.hop_length
    assert samples.isfinite().all()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_the_pitch_of_a_voice(rate: int):
    hop = rate // 80
    samples = torch.cat([torch.zeros(rate // 2), vowel(rate, 1.0), torch.zeros(rate // 2)])
    log_pitch, weight = track_pitch(samples, rate, hop)
    assert len(log_pitch) == len(weight) == 1 + len(samples) // hop
    seconds = torch.arange(len(weight)) * hop / rate
    spoken = (seconds > 0.6) & (seconds < 1.4)
    assert (weight[spoken] > 0).all()
    assert not weight[(seconds < 0.45) | (seconds > 1.55)].any()
    true = torch.log(140.0 * (1.0 - 0.2 * (seconds - 0.5)))
    assert (log_pitch - true)[spoken].abs().max() < 0.03


def test_noise_silence_and_short_sounds_have_no_pitch():
    torch.manual_seed(0)
    _, weight = track_pitch(0.1 * torch.randn(16000), 16000, 256)
    assert (weight > 0).float().mean() < 0.1
    for samples in (torch.zeros(4000), torch.zeros(3), torch.full((50,), 0.1)):
        log_pitch, weight = track_pitch(samples, 16000, 256)
        assert len(log_pitch) == 1 + len(samples) // 256
        assert log_pitch.isfinite().all()
        assert not weight[:-1].any()

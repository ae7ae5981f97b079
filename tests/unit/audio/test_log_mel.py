"""Log-mel features against librosa, alone and in padded batches."""

import librosa
import numpy as np
import pytest
import torch

from speechmm.audio.log_mel import LogMel, LogMelConfig, compute_log_mel
from speechmm.errors import ConfigError

CONFIGS = [
    LogMelConfig(),
    LogMelConfig(n_mels=40, f_min=50.0, f_max=7000.0),
    LogMelConfig(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=32),
]


def noise(samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 0.1 * torch.randn(samples, generator=generator)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("samples", [1, 159, 160, 4000, 16001, 400_000])
def test_equals_librosa(config: LogMelConfig, samples: int) -> None:
    waveform = noise(samples)
    padded = np.pad(waveform.numpy(), config.n_fft // 2)  # librosa warns of very short input
    power = librosa.feature.melspectrogram(
        y=padded,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.win_length,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        center=False,
    )
    features = compute_log_mel(waveform, config)
    assert features.shape == (config.num_frames(samples), config.n_mels)
    np.testing.assert_allclose(features, np.log(np.maximum(power, 1e-10)).T, atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS)
def test_padding_changes_nothing(config: LogMelConfig) -> None:
    lengths = torch.tensor([16000, 1, 4321, 7999])
    waveforms = torch.zeros(4, 16500)
    for row, length in enumerate(lengths.tolist()):
        waveforms[row, :length] = noise(length)
    features, frame_lengths = LogMel(config)(waveforms, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = compute_log_mel(noise(length), config)
        frames = int(frame_lengths[row])
        assert frames == len(alone) == config.num_frames(length)
        torch.testing.assert_close(features[row, :frames], alone, atol=1e-4, rtol=0)
        assert not features[row, frames:].any()


def test_silence_is_finite() -> None:
    features = compute_log_mel(torch.zeros(1600), LogMelConfig())
    torch.testing.assert_close(features, torch.full((11, 80), float(np.log(1e-10))))


def test_nothing_to_save() -> None:
    assert not LogMel(LogMelConfig()).state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_mels": 0}, "n_mels is 0; expected 1 to 1024"),
        ({"n_fft": 2**31}, "n_fft is 2147483648; expected 1 to 65536"),
        ({"hop_length": -1}, "hop_length is -1"),
        ({"n_fft": 256}, "n_fft is 256, win_length 400"),
        ({"f_max": 9000.0}, "f_max 9000"),
        ({"f_min": 5000.0, "f_max": 4000.0}, "f_min 5000"),
    ],
)
def test_wrong_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LogMelConfig(**settings)


def test_empty_bands_are_refused() -> None:
    config = LogMelConfig(sample_rate=8000, n_fft=256, win_length=200, n_mels=200)
    with pytest.raises(ConfigError, match=r"n_mels 200 and n_fft 256 at 8000 Hz, \d+ mel bands"):
        LogMel(config)

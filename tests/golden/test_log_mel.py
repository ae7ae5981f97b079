"""Golden numbers of the front end: a change in them changes every trained model."""

import math

import torch

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel


def test_log_mel_of_a_chirp(check_golden):
    config = LogMelConfig()
    seconds = torch.arange(config.sample_rate) / config.sample_rate
    chirp = 0.3 * torch.sin(2 * math.pi * (100 * seconds + 1500 * seconds**2))
    noise = 1e-3 * torch.randn(len(chirp), generator=torch.Generator().manual_seed(0))
    features = compute_log_mel(chirp + noise, config)
    peaks = features.argmax(dim=1)
    numbers = {
        "frames": float(features.shape[0]),
        "mean": float(features.mean()),
        "std": float(features.std()),
        "first_frame_mean": float(features[0].mean()),
        "last_frame_mean": float(features[-1].mean()),
        **{f"peak_band_at_{frame}": float(peaks[frame]) for frame in (10, 50, 90)},
    }
    check_golden("log_mel", numbers, rel=1e-3)

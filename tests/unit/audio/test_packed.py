"""Packed waveforms: every frame is that of its own waveform alone."""

import numpy as np
import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.audio.packed import Stretch, as_float, as_recorded, pack, played_samples
from speechmm.audio.resample import perturb_speed

CONFIG = LogMelConfig(n_mels=20)
FACTORS = (1.0, 0.9, 1.1, 1.05, 1.00007, 0.8731)  # the last two have no filter a phase of use


def noise(samples: int, seed: int, *, narrow: bool) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    values = torch.from_numpy(generator.normal(0, 0.2, samples).clip(-0.9, 0.9)).float()
    return (values * 32768).to(torch.int16) if narrow else values


def alone(stretch: Stretch) -> torch.Tensor:
    waveform = as_float(stretch.waveform)
    if stretch.factor != 1.0:
        waveform = perturb_speed(waveform, stretch.factor, CONFIG.sample_rate)
    return compute_log_mel(waveform, CONFIG)[stretch.first : stretch.end]


def stretch(samples: int, seed: int, factor: float, narrow: bool, inside: bool) -> Stretch:
    frames = CONFIG.num_frames(played_samples(samples, factor))
    first, end = (frames // 3, frames // 2) if inside else (0, frames)
    return Stretch(noise(samples, seed, narrow=narrow), factor, first, end)


@pytest.mark.parametrize("narrow", [True, False])
def test_rows_of_stretches_are_those_of_each_waveform_alone(narrow: bool) -> None:
    lengths = (1, 159, 400, 5003, 16000, 24321)
    all_ = [
        stretch(samples, seed, factor, narrow, inside and samples > 2000)
        for inside in (False, True)
        for seed, (samples, factor) in enumerate((n, f) for n in lengths for f in FACTORS)
    ]
    rows = [all_[i : i + 1 + i % 4] for i in range(0, len(all_), 3)]
    clips = pack(rows, CONFIG, round_up=lambda frames: frames + 5)
    features = clips.log_mel(CONFIG)
    expected = [torch.cat([alone(one) for one in row]) for row in rows]
    assert features.shape[1] == max(map(len, expected)) + 5
    for row, frames in enumerate(expected):
        assert torch.allclose(features[row, : len(frames)], frames, atol=2e-4)
        assert not features[row, len(frames) :].any()


def test_little_more_is_kept_than_the_frames_need() -> None:
    long = Stretch(noise(160_000, 0, narrow=True), 1.1, 300, 320)
    (samples,) = pack([[long]], CONFIG).samples
    assert samples.dtype == torch.int16
    assert len(samples) < 3 * 20 * 160


def test_sixteen_bits_stay_what_they_are_and_others_stay_floats() -> None:
    narrow = noise(1000, 1, narrow=True)
    assert torch.equal(as_recorded(as_float(narrow)), narrow)
    fine = noise(1000, 1, narrow=False)
    assert as_recorded(fine) is fine
    assert as_recorded(torch.tensor([1.0])).dtype == torch.float32  # 32768 has no place in 16 bits
    assert as_recorded(torch.tensor([-1.0])).tolist() == [-32768]


def test_wide_and_narrow_waveforms_share_a_batch() -> None:
    mixed = [[stretch(4000, 1, 0.9, True, False)], [stretch(5000, 2, 0.9, False, False)]]
    features = pack(mixed, CONFIG).log_mel(CONFIG)
    for row, (one,) in enumerate(mixed):
        frames = alone(one)
        assert torch.allclose(features[row, : len(frames)], frames, atol=2e-4)

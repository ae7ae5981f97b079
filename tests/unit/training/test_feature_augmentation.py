"""Masks, level and voice changes of training features."""

import math

import librosa
import numpy as np
import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.training.augmentation.concatenation import ConcatenationConfig
from speechmm.training.augmentation.features import (
    FeatureAugmentConfig,
    random_gain,
    random_tempo,
    random_vtlp,
)
from speechmm.training.augmentation.spec_augment import SpecAugmentConfig, spec_augment

LENGTHS = torch.tensor([300, 1, 40, 299, 150])


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_features(n_mels: int = 80) -> torch.Tensor:
    return torch.randn(len(LENGTHS), 300, n_mels, generator=seeded(7)) + 3.0


def test_only_valid_frames_change_and_to_the_mean() -> None:
    features = random_features()
    for seed in range(20):
        result = spec_augment(features, LENGTHS, SpecAugmentConfig(), seeded(seed))
        changed = result != features
        for row, length in enumerate(LENGTHS.tolist()):
            assert not changed[row, length:].any()
            values = result[row][changed[row]]
            mean = features[row, :length].mean()
            torch.testing.assert_close(values, mean.expand_as(values), atol=1e-4, rtol=0)


def test_masks_are_no_wider_than_asked() -> None:
    features = random_features()
    config = SpecAugmentConfig(time_masks=1, freq_masks=0, time_mask_frames=20)
    widest = [0] * len(LENGTHS)
    for seed in range(200):
        masked = spec_augment(features, LENGTHS, config, seeded(seed)) != features
        rows = masked.any(dim=2)
        assert torch.equal(rows, masked.all(dim=2))  # whole frames
        widest = [max(a, int(b)) for a, b in zip(widest, rows.sum(dim=1), strict=True)]
    limits = [min(20, math.floor(0.15 * length)) for length in LENGTHS.tolist()]
    whole = [0, 2, 3, 4]  # rows whose limit is a whole number of frames
    assert [widest[row] for row in whole] == [limits[row] for row in whole]  # reached, not passed
    config = SpecAugmentConfig(time_masks=0, freq_masks=1, freq_mask_bins=15)
    masked = torch.stack(
        [spec_augment(features, LENGTHS, config, seeded(n)) != features for n in range(200)]
    )
    bands = masked[:, 0].all(dim=1).sum(dim=1)
    assert int(bands.max()) == 15 and int(bands.min()) == 0


def test_the_share_holds_for_the_shortest_utterances() -> None:
    features = torch.randn(500, 6, 8, generator=seeded(7))
    config = SpecAugmentConfig(time_masks=1, freq_masks=0)
    result = spec_augment(features, torch.full((500,), 6), config, seeded())
    assert torch.equal(result, features)  # 15 % of 6 frames is less than one


def test_masks_fall_everywhere() -> None:
    features = random_features()
    config = SpecAugmentConfig(time_masks=1, freq_masks=0)
    masked = torch.stack(
        [spec_augment(features, LENGTHS, config, seeded(n)) != features for n in range(600)]
    )
    share = masked[:, 0].any(dim=2).float().mean(dim=0)
    assert float(share[:4].max()) > 0 and float(share[-4:].max()) > 0
    assert float(share.mean()) == pytest.approx(10 / 300, rel=0.15)  # mean width over length


def test_same_generator_same_masks() -> None:
    features = random_features()
    config = SpecAugmentConfig()
    first = spec_augment(features, LENGTHS, config, seeded(3))
    assert torch.equal(first, spec_augment(features, LENGTHS, config, seeded(3)))
    assert not torch.equal(first, spec_augment(features, LENGTHS, config, seeded(4)))
    assert torch.equal(features, random_features())  # the input is left alone


def test_nothing_asked_for_nothing_changed() -> None:
    features = random_features()
    config = SpecAugmentConfig(time_masks=0, freq_masks=0)
    assert torch.equal(spec_augment(features, LENGTHS, config, seeded()), features)
    assert torch.equal(random_gain(features, FeatureAugmentConfig(gain_db=0.0), seeded()), features)


def test_bands_wider_than_the_features() -> None:
    features = random_features(n_mels=8)
    config = SpecAugmentConfig(freq_mask_bins=100)
    assert spec_augment(features, LENGTHS, config, seeded()).isfinite().all()


def test_the_mean_of_frames_in_16_bits_is_theirs() -> None:
    frames, lengths = random_features(n_mels=400), torch.full((len(LENGTHS),), 300)
    exact = spec_augment(frames, lengths, SpecAugmentConfig(), seeded())
    for dtype in (torch.float16, torch.bfloat16):  # 120,000 values: too many for float16 to count
        found = spec_augment(frames.to(dtype), lengths, SpecAugmentConfig(), seeded())
        torch.testing.assert_close(found, exact.to(dtype), atol=0, rtol=0.01)


def test_gain_is_one_level_per_utterance() -> None:
    features = torch.zeros(1000, 3, 4)
    offsets = random_gain(features, FeatureAugmentConfig(gain_db=6.0), seeded())
    assert torch.equal(offsets, offsets[:, :1, :1].expand_as(offsets))
    decibels = offsets[:, 0, 0] * 10 / math.log(10)
    assert -6.0 <= float(decibels.min()) < -5.9 and 5.9 < float(decibels.max()) <= 6.0


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (SpecAugmentConfig, {"time_masks": -1}),
        (SpecAugmentConfig, {"time_mask_share": 1.5}),
        (FeatureAugmentConfig, {"gain_db": -1.0}),
        (FeatureAugmentConfig, {"vtlp": 1.0}),
        (FeatureAugmentConfig, {"tempo": -0.1}),
        (ConcatenationConfig, {"share": 1.5}),
        (ConcatenationConfig, {"max_utterances": 1}),
    ],
)
def test_wrong_settings(config: type, settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"augmentation\..*expected"):
        config(**settings)


def test_vtlp_reads_every_band_at_a_multiple_of_its_frequency() -> None:
    band_hz = LogMelConfig().band_hz
    features = band_hz.log()[None, None, :].expand(200, 2, -1).contiguous()  # says its frequency
    config = FeatureAugmentConfig(vtlp=0.1)
    out = random_vtlp(features, LogMelConfig(), config, torch.Generator().manual_seed(0))
    factor = (out - features).exp()[:, 0]
    middle = factor[:, 20:60]
    assert middle.std(dim=1).max() < 0.01  # one factor for all bands of an utterance
    assert 0.9 <= middle.min() < 0.91 and 1.09 < middle.max() <= 1.1
    assert (out.exp() <= band_hz[-1] * 1.0001).all()
    assert torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(random_vtlp(features, LogMelConfig(), FeatureAugmentConfig()), features)


@pytest.mark.parametrize("bands", [(80, 0.0, None), (40, 20.0, 7600.0), (10, 1500.0, 4000.0)])
def test_band_hz_are_those_of_librosa(bands: tuple[int, float, float | None]) -> None:
    count, low, high = bands
    top = 8000.0 if high is None else high
    wanted = librosa.mel_frequencies(count + 2, fmin=low, fmax=top)[1:-1].astype(np.float32)
    config = LogMelConfig(n_mels=count, f_min=low, f_max=high)
    np.testing.assert_array_equal(config.band_hz.numpy(), wanted)


def test_band_hz_are_the_peaks_of_the_bands() -> None:
    config = LogMelConfig(n_fft=4096, f_min=50.0, f_max=7000.0)
    filters = librosa.filters.mel(sr=16000, n_fft=4096, n_mels=80, fmin=50.0, fmax=7000.0)
    peaks = filters.argmax(axis=1) * 16000 / 4096
    np.testing.assert_allclose(config.band_hz.numpy(), peaks, atol=4.0)


def test_another_tempo_reads_the_same_frames_at_another_pace() -> None:
    lengths = torch.tensor([200, 120, 0])
    features = torch.arange(200.0)[None, :, None].repeat(3, 1, 2)
    config = FeatureAugmentConfig(tempo=0.2)
    for seed in range(20):
        out, new, known = random_tempo(
            features, lengths, config, torch.Generator().manual_seed(seed)
        )
        assert out.shape[1] == new.max()
        assert known == new.tolist()
        for row in range(2):
            pace = torch.diff(out[row, : new[row], 0])[:-1]
            assert torch.allclose(pace, pace[0].expand_as(pace), atol=1e-3)
            assert 0.8 <= pace[0] <= 1.2
            assert abs(int(new[row]) * float(pace[0]) - int(lengths[row])) <= 1
            assert out[row, 0, 0] == 0
            assert out[row, new[row] - 1, 0] >= lengths[row] - 1 - 2.4
            assert not out[row, new[row] :].any()
        assert new[2] == 0
    same, kept, _ = random_tempo(features, lengths, FeatureAugmentConfig())
    assert torch.equal(same, features)
    assert torch.equal(kept, lengths)


def test_an_impossible_tempo_is_refused() -> None:
    with pytest.raises(ConfigError, match="tempo"):
        FeatureAugmentConfig(tempo=1.0)

"""Noise and reverberation of training features."""

import math

import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.errors import ConfigError
from speechmm.training.augmentation.noise_reverb import NoiseReverbConfig, add_noise_reverb

LENGTHS = torch.tensor([300, 1, 40, 299])


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_features() -> torch.Tensor:
    return torch.randn(len(LENGTHS), 300, 80, generator=seeded(7)) - 3.0


def valid() -> torch.Tensor:
    return torch.arange(300)[None, :] < LENGTHS[:, None]


def test_shares_of_zero_change_nothing() -> None:
    features = some_features()
    assert add_noise_reverb(features, LENGTHS, NoiseReverbConfig()) is features


def test_padding_is_left_alone_and_nothing_gets_softer() -> None:
    features = some_features()
    config = NoiseReverbConfig(noise_share=1.0, reverb_share=1.0)
    for seed in range(5):
        out = add_noise_reverb(features, LENGTHS, config, seeded(seed))
        assert torch.equal(out[~valid()], features[~valid()])
        assert bool((out - features)[valid()].min() >= -1e-4)
        assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("ratio", [0.0, 20.0])
def test_noise_has_the_asked_ratio(ratio: float) -> None:
    features = some_features()
    config = NoiseReverbConfig(noise_share=1.0, noise_min_db=ratio, noise_max_db=ratio)
    clean = (features.exp() * valid()[:, :, None]).double()
    for seed in range(5):
        noisy = add_noise_reverb(features, LENGTHS, config, seeded(seed)).exp().double()
        added = noisy * valid()[:, :, None] - clean
        for row in range(len(LENGTHS)):  # however much of it is padding
            found = 10 * math.log10(clean[row].sum() / added[row].sum())
            assert found == pytest.approx(ratio, abs=0.2)


def test_the_share_of_utterances() -> None:
    features = torch.zeros(2000, 5, 4)
    lengths = torch.full((2000,), 5)
    for config in (NoiseReverbConfig(noise_share=0.3), NoiseReverbConfig(reverb_share=0.3)):
        out = add_noise_reverb(features, lengths, config, seeded())
        changed = (out != features).flatten(1).any(dim=1).double().mean()
        assert float(changed) == pytest.approx(0.3, abs=0.05)


def test_a_click_decays_by_60_db_in_the_reverberation_time() -> None:
    power = torch.full((1, 100, 3), 1e-9)
    power[0, 10] = 1.0
    config = NoiseReverbConfig(
        reverb_share=1.0, reverb_seconds=0.1
    )  # the shortest: no choice is left
    out = add_noise_reverb(power.log(), torch.tensor([100]), config, seeded())
    assert float(out[0, :10].exp().max()) < 1e-8  # nothing before the sound
    decibel = out[0, 11:15, 0] * 10 / math.log(10)
    torch.testing.assert_close(decibel.diff(), torch.full((3,), -6.0), atol=1e-2, rtol=0)


def test_features_of_noisy_audio_are_noisy_features() -> None:
    """What is assumed, checked on audio: mel powers of independent sounds add."""
    config = LogMelConfig()
    speech = torch.sin(torch.arange(32000) * 0.3) * torch.linspace(0.01, 0.5, 32000)
    noise = torch.randn(32000, generator=seeded()) * 0.05
    mixed = compute_log_mel(speech + noise, config)
    added = (compute_log_mel(speech, config).exp() + compute_log_mel(noise, config).exp()).log()
    assert float((mixed - added).mean().abs()) < 0.1


@pytest.mark.parametrize(
    "settings",
    [{"noise_share": 1.5}, {"reverb_share": -0.1}, {"noise_min_db": 40.0}, {"reverb_seconds": 0.0}],
)
def test_impossible_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="noise_reverb: "):
        NoiseReverbConfig(**settings)

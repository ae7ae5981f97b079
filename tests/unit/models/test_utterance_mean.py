"""The mean of an utterance's speech: silence, padding and level do not move it."""

import math

import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.models.bundle_config import PLAIN_MEAN, BundleConfig
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.utterance_mean import frame_levels, loud_level, utterance_mean

FLOOR = math.log(1e-10)


def mean_of(features: torch.Tensor, share: float = 0.0) -> torch.Tensor:
    lengths = torch.tensor([len(features)])
    batch = features[None]
    return utterance_mean(batch, frame_levels(batch), lengths, share)[0, 0]


@pytest.fixture
def speech() -> torch.Tensor:
    """Frames within 20 dB of each other."""
    return torch.rand(150, 20, generator=torch.Generator().manual_seed(2)) * 3.0


@pytest.mark.parametrize("frames", [1, 100, 800])
@pytest.mark.parametrize("level", [FLOOR, -18.0, -9.0])
def test_silence_does_not_move_the_mean_wherever_it_is(speech, frames, level):
    silence = torch.full((frames, 20), level)
    expected = mean_of(speech)
    torch.testing.assert_close(expected, speech.mean(dim=0))
    halves = speech[:75], speech[75:]
    for parts in ([silence, speech], [speech, silence], [halves[0], silence, halves[1]]):
        torch.testing.assert_close(mean_of(torch.cat(parts)), expected)


def test_a_share_of_quiet_frames_is_a_limit(speech):
    silence = torch.full((50, 20), FLOOR)
    both = torch.cat([speech, silence])
    torch.testing.assert_close(mean_of(both, 1.0), both.mean(dim=0))
    torch.testing.assert_close(mean_of(both, 0.5), both.mean(dim=0))  # a quarter is below a half
    expected = 0.9 * speech.mean(dim=0) + 0.1 * FLOOR
    torch.testing.assert_close(mean_of(both, 0.1), expected)


def test_level_and_padding_leave_no_trace(speech):
    both = torch.cat([speech, torch.full((60, 20), -12.0)])
    torch.testing.assert_close(mean_of(both - 4.0), mean_of(both) - 4.0)
    padded = torch.nn.functional.pad(both, (0, 0, 0, 90), value=7.0)[None]
    found = utterance_mean(padded, frame_levels(padded), torch.tensor([210]), 0.0)
    torch.testing.assert_close(found[0, 0], mean_of(both))


@pytest.mark.parametrize("frames", [1, 5, 20])
def test_all_frames_of_the_shortest_utterances_count(frames):
    features = torch.randn(frames, 20) * 8.0
    torch.testing.assert_close(mean_of(features), features.mean(dim=0))


def test_a_few_clicks_do_not_set_the_loud_level(speech):
    levels = frame_levels(speech[None])
    clicks = levels.clone()
    clicks[0, 10:25] += 20.0
    lengths = torch.tensor([150])
    assert float(loud_level(clicks, lengths)) == pytest.approx(
        float(levels[0].topk(20).values[-1]), abs=0.5
    )


def test_noise_60_db_below_full_scale_leaves_the_normalised_speech_alone():
    """As waveforms: a second of tones of many pitches, with silence and soft noise after it."""
    time = torch.arange(16_000) / 16_000
    tones = torch.stack([torch.sin(2 * math.pi * f * time) for f in (200, 450, 900, 1800, 3600)])
    waveform = 0.05 * tones.sum(dim=0)
    log_mel = LogMelConfig()
    model = SpeechTextModel(
        SpeechTextConfig(
            d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1, utterance_cmn=True
        ),
        vocab_size=8,
        n_mels=80,
    )

    def normalised(tail: torch.Tensor) -> torch.Tensor:
        features = compute_log_mel(torch.cat([waveform, tail]), log_mel)[None]
        return model.normalise(features, torch.tensor([features.shape[1]]))[0, :97]

    generator = torch.Generator().manual_seed(1)
    expected = normalised(torch.zeros(0))
    for tail in (torch.zeros(48_000), 1e-3 * torch.randn(48_000, generator=generator)):
        torch.testing.assert_close(normalised(tail), expected, atol=0.1, rtol=0.0)


def test_bundles_that_do_not_say_keep_the_mean_of_all_frames():
    values = {
        "model": {"d_model": 16},
        "vocab_size": 5,
        "heads": ["ctc"],
        "tags": ["asr"],
        "features": {},
        "weights_sha256": "0",
    }
    assert BundleConfig.from_json(values).model.cmn_quiet_share == PLAIN_MEAN == 1.0
    written = BundleConfig.from_json(values | {"model": {"cmn_quiet_share": 0.0}})
    assert written.model.cmn_quiet_share == 0.0

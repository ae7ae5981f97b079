"""The head that speaks: shapes, padding, who speaks, where in a token a frame is."""

import dataclasses

import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.models.alignment_head import between_frames, upsample_frames
from speechmm.models.front_end import length_mask
from speechmm.models.speaking import frames_per_encoder_frame, speak
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.voice import (
    LONGEST_TOKEN_SECONDS,
    TimedTokens,
    VoiceConfig,
    frame_energy,
    place_in_token,
    token_means,
)

CONFIG = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=16, encoder_layers=2, decoder_layers=1, front_channels=4, align_dim=8
)  # fmt: skip
MEL = LogMelConfig(n_mels=20, n_fft=512, win_length=512, hop_length=200)
VOICE = VoiceConfig(mel=MEL, speakers=("anna", "bob", "eve"), mel_layers=2)
FEATURES = LogMelConfig()


@pytest.fixture(scope="module")
def model() -> SpeechTextModel:
    torch.manual_seed(0)
    return SpeechTextModel(CONFIG, vocab_size=12, n_mels=80, voice=VOICE).eval()


def said(model: SpeechTextModel, tokens: list[list[int]], frames: list[list[float]], *,
         more: int = 0, speakers: list[int] | None = None, prosody=None):  # fmt: skip
    """What a model says; ``more`` tokens and frames of padding."""
    longest = max(map(len, tokens)) + more
    ids = torch.zeros(len(tokens), longest, dtype=torch.long)
    durations = torch.zeros(len(tokens), longest)
    for row, (one, two) in enumerate(zip(tokens, frames, strict=True)):
        ids[row, : len(one)] = torch.tensor(one)
        durations[row, : len(two)] = torch.tensor(two)
    lengths = durations.sum(dim=1).round().long()
    timed = TimedTokens(durations, lengths, int(lengths.max()) + 3 * more)
    found = speak(
        model,
        ids,
        torch.tensor([len(one) for one in tokens]),
        torch.tensor(speakers or [0] * len(tokens)),
        timed,
        factor=frames_per_encoder_frame(model, FEATURES),
        prosody=prosody,
    )
    return found, lengths


TOKENS = [[4, 5, 6, 4, 7, 4], [4, 8, 9, 4]]
FRAMES = [[5.0, 7.5, 3.5, 0.0, 6.0, 4.0], [2.0, 9.0, 4.0, 3.0]]


def test_shapes(model):
    found, lengths = said(model, TOKENS, FRAMES)
    assert lengths.tolist() == [26, 18]
    assert found.mel.shape == (2, 26, 20)
    assert found.log_durations.shape == (2, 6)
    assert found.prosody.shape == (2, 6, 2)
    assert model.voice.log_mel(found.mel).isfinite().all()


def test_padding_and_neighbours_change_nothing(model):
    together, lengths = said(model, TOKENS, FRAMES, more=4)
    for row in (0, 1):
        alone, _ = said(model, [TOKENS[row]], [FRAMES[row]])
        count, frames = len(TOKENS[row]), int(lengths[row])
        torch.testing.assert_close(together.mel[row, :frames], alone.mel[0], rtol=1e-4, atol=1e-5)
        for name in ("log_durations", "prosody"):
            torch.testing.assert_close(
                getattr(together, name)[row, :count], getattr(alone, name)[0], rtol=1e-4, atol=1e-5
            )


def test_speakers_differ_and_an_unknown_one_is_the_mean_of_all(model):
    anna, bob, unknown = (
        said(model, TOKENS[:1], FRAMES[:1], speakers=[place])[0].mel for place in (0, 1, -1)
    )
    assert not torch.allclose(anna, bob, atol=1e-3)
    assert not torch.allclose(anna, unknown, atol=1e-3)
    same = torch.nn.Embedding.from_pretrained(model.voice.speakers.weight.mean(0).expand(3, -1))
    before, model.voice.speakers = model.voice.speakers, same
    try:
        mean = said(model, TOKENS[:1], FRAMES[:1], speakers=[2])[0].mel
    finally:
        model.voice.speakers = before
    torch.testing.assert_close(unknown, mean, rtol=1e-4, atol=1e-5)


def test_pitch_and_energy_are_heard(model):
    low, high = (torch.full((1, 6, 2), value) for value in (-1.0, 1.0))
    one, two = (said(model, TOKENS[:1], FRAMES[:1], prosody=each)[0].mel for each in (low, high))
    assert not torch.allclose(one, two, atol=1e-3)


def test_every_part_learns(model):
    model = SpeechTextModel(CONFIG, vocab_size=12, n_mels=80, voice=VOICE).train()
    found, lengths = said(model, TOKENS, FRAMES)
    valid = length_mask(lengths, found.mel.shape[1])
    loss = (
        found.mel[valid].square().sum() + found.log_durations.sum() + found.prosody.square().sum()
    )
    loss.backward()
    still = {
        name for name, one in model.voice.named_parameters() if one.grad is None or not one.grad.any()
    }  # fmt: skip
    assert still == {"text.masked"}
    assert all(one.grad is not None for one in model.encoder.stack.parameters())
    assert all(one.grad is None for one in model.encoder.front_end.parameters())


def test_no_token_lasts_for_ever(model):
    voice = model.voice
    assert voice.durations(torch.tensor([[-3.0, 0.0, 60.0]])).tolist() == [
        [0.0, 0.0, LONGEST_TOKEN_SECONDS / MEL.frame_shift]
    ]
    assert voice.durations(torch.tensor([[1.0]])).item() == pytest.approx(1.71828, abs=1e-4)
    assert voice.log_mel(torch.full((1, 1, 20), 1e9)).exp().isfinite().all()


def test_log_mel_and_its_normalised_form(model):
    voice = SpeechTextModel(CONFIG, vocab_size=12, n_mels=80, voice=VOICE).voice
    voice.mel_mean.copy_(torch.linspace(-9, -3, 20))
    voice.mel_std.fill_(2.5)
    mel = torch.randn(2, 7, 20)
    torch.testing.assert_close(voice.log_mel(voice.normalised(mel)), mel)


def test_the_place_in_a_token():
    durations = torch.tensor([[2.0, 0.0, 3.0]])
    shares = TimedTokens(durations, torch.tensor([5]), 6).shares()
    assert shares[0, :5].tolist() == [[1, 0, 0]] * 2 + [[0, 0, 1]] * 3
    assert not shares[0, 5].any()
    place = place_in_token(durations, shares)[0, :5]
    torch.testing.assert_close(place[:, 0], torch.tensor([0.25, 0.75, 1 / 6, 0.5, 5 / 6]))
    torch.testing.assert_close(place[:, 1].expm1(), torch.tensor([2.0, 2.0, 3.0, 3.0, 3.0]))
    torch.testing.assert_close(place[:, 2].expm1(), torch.tensor([0.5, 1.5, 0.5, 1.5, 2.5]))
    torch.testing.assert_close((place[:, 2].expm1() + place[:, 3].expm1()), place[:, 1].expm1())


def test_under_autocast_places_and_means_are_as_precise():
    durations = torch.tensor([[301.3, 7.7, 2.5, 88.5]])
    shares = TimedTokens(durations, torch.tensor([400]), 400).shares()
    values, weights = torch.rand(1, 400) + 5.0, torch.rand(1, 400)
    expected = place_in_token(durations, shares), *token_means(values, weights, shares)
    with torch.autocast("cpu", torch.bfloat16):
        found = place_in_token(durations, shares), *token_means(values, weights, shares)
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


def test_means_of_tokens_are_weighted():
    shares = TimedTokens(torch.tensor([[2.0, 2.0, 0.0]]), torch.tensor([4]), 4).shares()
    values = torch.tensor([[1.0, 3.0, 5.0, 100.0]])
    weights = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    means, total = token_means(values, weights, shares)
    assert means.tolist() == [[2.5, 5.0, 0.0]]
    assert total.tolist() == [[4.0, 2.0, 0.0]]


def test_energy_is_the_log_of_the_mean_power():
    power = torch.rand(3, 20) + 0.1
    torch.testing.assert_close(frame_energy(power.log()), power.mean(dim=1).log())


def test_frames_between_frames():
    encoded = torch.randn(2, 5, 3)
    lengths = torch.tensor([5, 3])
    position = torch.arange(20)
    for frames in (20, 13):
        whole, weight = position[:frames] // 4, (position[:frames] % 4) / 4
        torch.testing.assert_close(
            between_frames(encoded, lengths, whole, weight),
            upsample_frames(encoded, lengths, frames, 4),
        )


@pytest.mark.parametrize("wrong", [{"speakers": ()}, {"token_layers": 0}, {"mel_layers": 0}])
def test_a_voice_of_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match="voice: "):
        dataclasses.replace(VOICE, **wrong)

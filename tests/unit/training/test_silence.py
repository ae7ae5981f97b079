"""Pauses and utterances without speech in training batches."""

import math

import pytest
import torch

from speechmm.audio.log_mel import FLOOR, LogMelConfig
from speechmm.data.batch import Batch, pad_tokens
from speechmm.errors import ConfigError
from speechmm.models.losses import attention_loss, ctc_loss
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.utterance_mean import frame_levels
from speechmm.text.tokenizer import EOS, SIL
from speechmm.training.augmentation.noise_bank import NoiseBank
from speechmm.training.augmentation.silence import SilenceAugmenter, SilenceConfig

LENGTHS = [60, 45, 50]


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    features = torch.zeros(3, 60, 80)
    for row, length in enumerate(LENGTHS):
        features[row, :length] = torch.rand(length, 80, generator=generator) + 5.0
    tokens, token_lengths = pad_tokens([[5, 6], [7], [5, 7, 6]])
    aligned, align_lengths = pad_tokens([[SIL, 5, 6, SIL], [SIL, 7, SIL], [SIL, 5, 7, 6, SIL]])
    return Batch(
        ids=["a", "b", "c"],
        features=features,
        feature_lengths=torch.tensor(LENGTHS),
        tokens=tokens,
        token_lengths=token_lengths,
        align_tokens=aligned,
        align_lengths=align_lengths,
        texts=["ab", "c", "acb"],
        seconds=1.55,
        references=[None] * 3,
        speakers=["p"] * 3,
        speeds=[1.0] * 3,
        recombined=[False] * 3,
    )


def augmenter(**settings: float) -> SilenceAugmenter:
    return SilenceAugmenter(SilenceConfig(**settings), LogMelConfig())


def test_utterances_stand_whole_between_softer_pauses(batch: Batch) -> None:
    augment = augmenter(pause_share=1.0, max_db=-20.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        found = augment.add_pauses(batch, generator)
        assert found is not None and found.texts == batch.texts
        added = found.feature_lengths - batch.feature_lengths
        assert len(set(added.tolist())) == 1 and 10 <= int(added[0]) <= 300
        assert found.features.shape[1] == int(found.feature_lengths.max())
        for row, length in enumerate(LENGTHS):
            whole = found.features[row, : int(found.feature_lengths[row])]
            loud = (frame_levels(whole[None])[0] > 7.0).nonzero()[:, 0]
            assert len(loud) == length and int(loud[-1] - loud[0]) == length - 1
            said = whole[int(loud[0]) : int(loud[-1]) + 1]
            torch.testing.assert_close(said, batch.features[row, :length], atol=0.7, rtol=0.0)
            assert not found.features[row, len(whole) :].any()


def test_silence_alone_has_an_empty_text(batch: Batch) -> None:
    found = augmenter(alone_share=1.0).add_rows(
        batch, silence=SIL, generator=torch.Generator().manual_seed(0)
    )
    assert found.texts == [*batch.texts, "", "", ""]
    assert found.token_lengths.tolist() == [2, 1, 3, 0, 0, 0]
    assert found.align_tokens[3:, 0].tolist() == [SIL] * 3
    assert found.align_lengths[3:].tolist() == [1, 1, 1]
    assert torch.equal(found.features[:3], batch.features)
    assert found.features.isfinite().all() and float(found.features[3:].min()) >= math.log(FLOOR)
    assert len(found.duplicated()) == 12


def test_empty_texts_teach_blanks_and_the_end(batch: Batch) -> None:
    found = augmenter(alone_share=1.0).add_rows(batch, silence=SIL)
    torch.manual_seed(0)
    config = SpeechTextConfig(
        d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1, front_channels=4
    )
    model = SpeechTextModel(config, vocab_size=9, n_mels=80)
    encoding = model.encode_speech(found.features, found.feature_lengths)
    log_probs = model.ctc_log_probs(encoding)
    alone = ctc_loss(
        log_probs[3:], encoding.enc_lengths[3:], found.tokens[3:], found.token_lengths[3:]
    )
    blanks = sum(-log_probs[row, : int(encoding.enc_lengths[row]), 0].sum() for row in range(3, 6))
    torch.testing.assert_close(alone, blanks)
    logits = model.decode(found.tokens, encoding).logits
    ends = attention_loss(
        logits[3:], found.tokens[3:], found.token_lengths[3:], eos=EOS, label_smoothing=0.0
    )
    torch.testing.assert_close(ends, -logits[3:, 0].log_softmax(dim=-1)[:, EOS].mean())


def test_nothing_is_drawn_and_changed_unless_asked_for(batch: Batch) -> None:
    before = torch.get_rng_state()
    augment = augmenter()
    assert augment.add_pauses(batch) is None
    assert augment.add_rows(batch, silence=SIL) is batch
    assert torch.equal(torch.get_rng_state(), before)


def test_the_bank_of_sounds_is_finite_and_loudest_at_zero() -> None:
    bank = NoiseBank(LogMelConfig(n_mels=40))
    assert bank.clips.isfinite().all()
    torch.testing.assert_close(
        frame_levels(bank.clips).amax(dim=1), torch.zeros(len(bank.clips)), atol=1e-3, rtol=0.0
    )
    assert bank.draw(5, 900, torch.Generator().manual_seed(0)).shape == (5, 900, 40)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"pause_share": 1.5}, "pause_share"),
        ({"min_db": 0.0}, "min_db"),
        ({"max_seconds": 0.01}, "max_seconds"),
        ({"after_epochs": -1}, "after_epochs"),
    ],
)
def test_settings_are_checked(settings: dict[str, float], found: str) -> None:
    with pytest.raises(ConfigError, match=f"model.augmentation.silence.*{found}"):
        SilenceConfig(**settings)

"""The order of the augmentation pipeline, and what it hands on."""

import dataclasses

import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch, pad_tokens
from speechmm.text.tokenizer import Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.augmentation import AugmentationConfig, Augmenter, pipeline
from speechmm.training.augmentation.concatenation import ConcatenationConfig
from speechmm.training.augmentation.features import FeatureAugmentConfig
from speechmm.training.augmentation.recombination import RecombinationConfig
from speechmm.training.augmentation.silence import SilenceAugmenter, SilenceConfig

TEXTS = ["one two", "three"]
ORDER = [
    "add_pauses",
    "add_rows",
    "random_tempo",
    "duplicated",
    "random_vtlp",
    "add_noise_reverb",
    "random_gain",
    "normalise",
    "spec_augment",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, kind="char")


def make_batch(tokenizer: Tokenizer) -> Batch:
    tokens, token_lengths = pad_tokens([tokenizer.encode(text) for text in TEXTS])
    aligned, align_lengths = pad_tokens([tokenizer.encode_aligned(text).ids for text in TEXTS])
    return Batch(
        ids=["a", "b"],
        features=torch.randn(2, 40, 80),
        feature_lengths=torch.tensor([40, 30]),
        tokens=tokens,
        token_lengths=token_lengths,
        align_tokens=aligned,
        align_lengths=align_lengths,
        texts=list(TEXTS),
        seconds=0.7,
        references=[None, None],
        speakers=["p", "p"],
        speeds=[1.0, 1.0],
        recombined=[False, False],
    )


def test_changes_are_made_in_the_order_the_config_says(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def record(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: object, **kwargs: object) -> object:
            called.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    for name in ORDER:
        if name not in ("add_pauses", "add_rows", "duplicated", "normalise"):
            record(pipeline, name)
    record(SilenceAugmenter, "add_pauses")
    record(SilenceAugmenter, "add_rows")
    record(Batch, "duplicated")
    config = AugmentationConfig(silence=SilenceConfig(pause_share=1e-9, after_epochs=2))
    augment = Augmenter(config, LogMelConfig(), views=2)

    def normalise(features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        called.append("normalise")
        return features

    augment(make_batch(tokenizer), 2, normalise)
    assert called == ORDER
    called.clear()
    augment(make_batch(tokenizer), 1, normalise)  # before silence begins
    assert called == ORDER[2:]
    fields = [field.name for field in dataclasses.fields(AugmentationConfig)]
    assert fields == [
        "recombination",
        "concatenation",
        "silence",
        "features",
        "noise_reverb",
        "spec_augment",
    ]


def test_views_of_an_utterance_have_one_tempo(tokenizer: Tokenizer) -> None:
    config = AugmentationConfig(features=FeatureAugmentConfig(tempo=0.3, gain_db=0.0))
    augment = Augmenter(config, LogMelConfig(), views=2)
    for seed in range(5):
        torch.manual_seed(seed)
        found = augment(make_batch(tokenizer), 0, lambda features, _: features)
        one, two = found.clean.chunk(2)
        assert torch.equal(one, two)
        assert found.batch.feature_lengths.tolist() == found.batch.frames
        assert found.batch.frames[:2] == found.batch.frames[2:]


def test_masks_are_in_masked_alone_and_rows_stay_known(tokenizer: Tokenizer) -> None:
    batch = make_batch(tokenizer)
    augment = Augmenter(AugmentationConfig(), LogMelConfig(), views=2)
    found = augment(batch, 0, lambda features, _: features)
    assert found.recorded is batch
    assert found.batch.ids == ["a", "b", "a", "b"]
    differ = (found.clean != found.masked).any(dim=2)
    assert differ.any()
    shared = ~differ
    assert torch.equal(found.clean[shared], found.masked[shared])


def test_rows_put_together_teach_the_bank_nothing(tokenizer: Tokenizer) -> None:
    config = AugmentationConfig(
        recombination=RecombinationConfig(share=1.0, after_epochs=9),
        concatenation=ConcatenationConfig(share=1.0),
    )
    augment = Augmenter(config, LogMelConfig(), views=2)
    for made, taught in (([True, True], []), ([False, True], ["a"])):
        batch = dataclasses.replace(make_batch(tokenizer), recombined=made)
        found = augment(batch, 0, lambda features, _: features)
        occupancy = torch.ones(len(found.batch), 40, found.batch.align_tokens.shape[1])
        augment.learn(found, occupancy)
        state = augment.state()
        assert state is not None
        assert state["learned"]["ids"] == taught
        assert state["known"]["ids"] == []


def test_pauses_teach_the_bank_nothing(tokenizer: Tokenizer) -> None:
    config = AugmentationConfig(
        recombination=RecombinationConfig(share=1.0, after_epochs=9),
        silence=SilenceConfig(pause_share=1.0),
    )
    augment = Augmenter(config, LogMelConfig(), views=1)
    found = augment(make_batch(tokenizer), 0, lambda features, _: features)
    assert found.recorded is None
    augment.learn(found, torch.ones(2, 400, found.batch.align_tokens.shape[1]))
    state = augment.state()
    assert state is not None
    assert state["learned"]["ids"] == []

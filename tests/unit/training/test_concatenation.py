"""Utterances one after the other: text, tokens and sound stay together."""

from random import Random

import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.dataset import SpeechDataset
from speechmm.data.plan import BatchPlan, PlannedUtterance
from speechmm.text.tokenizer import SIL
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.augmentation.concatenation import ConcatenationConfig, draw_groups

TEXTS = ("go home", "a word", "go now")


@pytest.mark.parametrize(("kind", "size"), [("char", None), ("bpe", 20)])
def test_concatenated_rows_are_one_utterance_after_the_other(shop, kind, size) -> None:
    tokenizer = train_tokenizer(TEXTS * 3, kind=kind, vocab_size=size)
    dataset = SpeechDataset(tokenizer, LogMelConfig())
    a, b, c = (shop.cut(f"{kind}-{i}", 0.5 + i / 10, text) for i, text in enumerate(TEXTS))
    joined = dataset[BatchPlan([[PlannedUtterance(a), PlannedUtterance(b)], [PlannedUtterance(c)]])]
    assert joined.ids == [f"{a.id}+{b.id}", c.id]
    assert joined.texts == ["go home a word", "go now"]
    assert joined.frames == joined.feature_lengths.tolist() == [51 + 61, 71]
    assert torch.equal(joined.features[0], torch.cat([dataset.load(a), dataset.load(b)]))
    assert torch.equal(joined.features[1, :71], dataset.load(c))
    tokens = joined.tokens[0, : joined.token_lengths[0]].tolist()
    assert tokens == tokenizer.encode("go home a word")
    aligned = joined.align_tokens[0, : joined.align_lengths[0]].tolist()
    assert aligned == tokenizer.encode_aligned("go home a word").ids
    assert aligned.count(SIL) == 5
    assert joined.recombined == [True, False]
    assert joined.references[0] is None
    assert joined.seconds == pytest.approx(1.8)


def test_groups_hold_every_utterance_once_and_are_not_too_long() -> None:
    lengths = [300] * 9 + [900, 1500, 700]
    config = ConcatenationConfig(share=1.0, max_utterances=4)
    sizes = set()
    for seed in range(50):
        groups = draw_groups(lengths, config, Random(seed))
        assert groups is not None
        assert [row for group in groups for row in group] == list(range(12))
        assert all(len(g) == 1 or sum(lengths[row] for row in g) <= 2000 for g in groups)
        sizes |= {len(group) for group in groups}
    assert sizes == {1, 2, 3, 4}
    half = ConcatenationConfig(share=0.5)
    joined = sum(draw_groups(lengths, half, Random(seed)) is not None for seed in range(200))
    assert 70 < joined < 130
    assert draw_groups(lengths, ConcatenationConfig(), Random(0)) is None

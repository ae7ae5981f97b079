"""Utterances one after the other: text, tokens and sound stay together."""

import torch

from speechmm.data.batch import Batch, pad_tokens
from speechmm.training.augmentation.concatenation import (
    ConcatenationConfig,
    concatenate,
    draw_groups,
)


def test_concatenated_rows_are_one_utterance_after_the_other() -> None:
    tokens, token_lengths = pad_tokens([[5, 6], [7], [8, 9]])
    aligned, align_lengths = pad_tokens([[1, 5, 6, 1], [1, 7, 1], [1, 8, 9, 1]])
    batch = Batch(
        ids=["a", "b", "c"],
        features=torch.arange(3.0)[:, None, None].expand(3, 10, 4).contiguous(),
        feature_lengths=torch.tensor([10, 5, 7]),
        tokens=tokens,
        token_lengths=token_lengths,
        align_tokens=aligned,
        align_lengths=align_lengths,
        texts=["x y", "z", "v"],
        seconds=0.22,
        references=[None] * 3,
        speakers=["p", "q", "q"],
        speeds=[1.0, 1.1, 1.0],
        recombined=[False, True, False],
    )
    joined = concatenate(batch, [[0, 1], [2]], silence=1, space=4)
    assert (joined.ids, joined.texts) == (["a+b", "c"], ["x y z", "v"])
    assert joined.feature_lengths.tolist() == [15, 7]
    assert joined.features[0, :, 0].tolist() == [0.0] * 10 + [1.0] * 5
    assert joined.tokens.tolist() == [[5, 6, 4, 7], [8, 9, 0, 0]]
    assert joined.align_tokens.tolist() == [[1, 5, 6, 1, 7, 1], [1, 8, 9, 1, 0, 0]]
    assert joined.align_lengths.tolist() == [6, 4]
    assert joined.speakers == ["p", "q"]
    assert joined.speeds == [1.0, 1.0]
    assert joined.recombined == [True, False]
    together = concatenate(batch, [[0, 1]], silence=1, space=None)
    assert together.tokens.tolist() == [[5, 6, 7]]
    alone = concatenate(batch, [[0], [1], [2]], silence=1, space=4)
    assert torch.equal(alone.tokens, batch.tokens)
    assert torch.equal(alone.align_tokens, batch.align_tokens)


def test_groups_hold_every_utterance_once_and_are_not_too_long() -> None:
    lengths = torch.tensor([300] * 9 + [900, 1500, 700])
    config = ConcatenationConfig(share=1.0, max_utterances=4)
    sizes = set()
    for seed in range(50):
        groups = draw_groups(lengths, config, torch.Generator().manual_seed(seed))
        assert groups is not None
        assert [row for group in groups for row in group] == list(range(12))
        assert all(len(g) == 1 or lengths[g].sum() <= 2000 for g in groups)
        sizes |= {len(group) for group in groups}
    assert sizes == {1, 2, 3, 4}
    half = ConcatenationConfig(share=0.5)
    joined = sum(
        draw_groups(lengths, half, torch.Generator().manual_seed(seed)) is not None
        for seed in range(200)
    )
    assert 70 < joined < 130
    assert draw_groups(lengths, ConcatenationConfig()) is None

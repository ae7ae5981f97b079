"""The batch dataclass."""

import pytest
import torch

from speechmm.data.batch import Batch, pad_tokens


def _batch() -> Batch:
    tokens, token_lengths = pad_tokens([[5, 6], [7]])
    return Batch(
        ids=["a", "b"],
        features=torch.ones(2, 10, 4),
        feature_lengths=torch.tensor([10, 5]),
        tokens=tokens,
        token_lengths=token_lengths,
        align_tokens=tokens,
        align_lengths=token_lengths,
        texts=["x y", "z"],
        seconds=0.15,
        references=[None, None],
        voices=["", ""],
    )


def test_padding_is_the_share_of_padded_frames() -> None:
    assert _batch().padding == pytest.approx(0.25)
    assert len(_batch()) == 2


def test_to_moves_every_tensor_and_keeps_the_rest() -> None:
    batch = _batch()
    moved = batch.to("meta")
    for name in ("features", "feature_lengths", "tokens", "token_lengths", "align_tokens"):
        assert getattr(moved, name).device.type == "meta"
    assert moved.align_lengths.device.type == "meta"
    assert (moved.ids, moved.texts, moved.seconds) == (batch.ids, batch.texts, batch.seconds)
    assert batch.features.device.type == "cpu"


def test_tokens_are_padded_with_zeros_on_the_right() -> None:
    padded, lengths = pad_tokens([[5, 6, 7], [], [8]])
    assert padded.tolist() == [[5, 6, 7], [0, 0, 0], [8, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    assert pad_tokens([])[0].shape == (0, 0)
    assert pad_tokens([[]])[0].shape == (1, 0)


def test_joined_rows_are_one_utterance_after_the_other() -> None:
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
        voices=["p", "q", "q"],
    )
    joined = batch.joined([[0, 1], [2]], silence=1, space=4)
    assert (joined.ids, joined.texts) == (["a+b", "c"], ["x y z", "v"])
    assert joined.feature_lengths.tolist() == [15, 7]
    assert joined.features[0, :, 0].tolist() == [0.0] * 10 + [1.0] * 5
    assert joined.tokens.tolist() == [[5, 6, 4, 7], [8, 9, 0, 0]]
    assert joined.align_tokens.tolist() == [[1, 5, 6, 1, 7, 1], [1, 8, 9, 1, 0, 0]]
    assert joined.align_lengths.tolist() == [6, 4]
    assert joined.voices == ["p", "q"]
    assert batch.joined([[0, 1]], silence=1, space=None).tokens.tolist() == [[5, 6, 7]]
    alone = batch.joined([[0], [1], [2]], silence=1, space=4)
    assert torch.equal(alone.tokens, batch.tokens)
    assert torch.equal(alone.align_tokens, batch.align_tokens)

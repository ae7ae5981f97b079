"""The batch dataclass."""

import pytest
import torch

from speechmm.data.batch import Batch, next_of_few, pad_tokens


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
        speakers=["", ""],
        speeds=[1.0, 1.0],
        recombined=[False, False],
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


def test_tokens_are_padded_further_where_that_is_asked_for() -> None:
    padded, lengths = pad_tokens([[5, 6, 7], [8]], round_up=lambda length: length + 2)
    assert padded.tolist() == [[5, 6, 7, 0, 0], [8, 0, 0, 0, 0]]
    assert lengths.tolist() == [3, 1]


def test_few_lengths_stand_for_all() -> None:
    few = {next_of_few(length) for length in range(1, 4097)}
    assert len(few) < 60
    for length in range(1, 4097):
        assert 0 <= next_of_few(length) - length < max(8, length / 8 + 1)
        assert next_of_few(length) % 8 == 0
        assert next_of_few(next_of_few(length)) == next_of_few(length)


def test_every_field_is_there_twice() -> None:
    twice = _batch().duplicated()
    assert len(twice) == 4
    assert twice.ids == ["a", "b", "a", "b"]
    assert twice.recombined == [False] * 4
    assert twice.seconds == 0.3
    assert twice.align_tokens.shape[0] == twice.feature_lengths.shape[0] == 4

"""Losses leave out what is impossible, and CTC by either way is the sum over all alignments."""

import itertools

import pytest
import torch

from speechmm.models.forward_sum import forward_sum_loss, frame_loss
from speechmm.models.losses import ctc_frames_needed, ctc_loss, ctc_nats


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([[1, 1, 2], [3, 0, 0], [2, 3, 0], [0, 0, 0]]), torch.tensor([3, 1, 2, 0])


def enumerated(log_probs: torch.Tensor, length: int, text: list[int]) -> float:
    """Minus the log of the sum over all paths that read as the text."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=length):
        if [key for key, _ in itertools.groupby(path) if key] == text:
            total += float(sum(log_probs[t, key] for t, key in enumerate(path)).exp())
    return -float(torch.tensor(total).log())


def test_ctc_is_the_sum_over_all_paths() -> None:
    torch.manual_seed(0)
    tokens, token_lengths = texts()
    lengths = torch.tensor([5, 4, 2, 3])
    log_probs = torch.randn(4, 5, 4).log_softmax(dim=2)
    found = ctc_nats(log_probs, lengths, tokens, token_lengths)
    for row in range(4):
        text = tokens[row, : token_lengths[row]].tolist()
        expected = enumerated(log_probs[row], int(lengths[row]), text)
        assert float(found[row]) == pytest.approx(expected, abs=1e-5)


def test_both_ways_to_ctc_have_one_value_and_gradient() -> None:
    torch.manual_seed(1)
    tokens, token_lengths = texts()
    lengths = torch.tensor([9, 7, 2, 4])
    logits = torch.randn(4, 9, 4, requires_grad=True)
    by_torch = ctc_loss(logits.log_softmax(dim=2), lengths, tokens, token_lengths)
    by_states = ctc_nats(logits.log_softmax(dim=2), lengths, tokens, token_lengths).sum() / 6
    torch.testing.assert_close(by_torch, by_states)
    (one,) = torch.autograd.grad(by_torch, logits)
    (other,) = torch.autograd.grad(by_states, logits)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_impossible_texts_do_not_count_as_tokens() -> None:
    torch.manual_seed(2)
    tokens, token_lengths = texts()
    assert ctc_frames_needed(tokens, token_lengths).tolist() == [4, 1, 2, 0]
    log_probs = torch.randn(4, 5, 4).log_softmax(dim=2).requires_grad_()
    lengths = torch.tensor([3, 4, 2, 5])  # the first one needs a blank between its equal tokens
    both = ctc_loss(log_probs, lengths, tokens, token_lengths)
    rest = ctc_loss(log_probs[1:], lengths[1:], tokens[1:], token_lengths[1:])
    torch.testing.assert_close(both, rest)
    (gradient,) = torch.autograd.grad(both, log_probs)
    assert gradient.isfinite().all() and not gradient[0].any() and gradient[1].any()


def test_what_cannot_be_aligned_does_not_count_as_frames() -> None:
    torch.manual_seed(3)
    scores = torch.randn(2, 6, 4).log_softmax(dim=2).requires_grad_()
    lengths, token_lengths = torch.tensor([3, 6]), torch.tensor([4, 3])
    skippable = torch.zeros(2, 4, dtype=torch.bool)
    both, occupancy = forward_sum_loss(scores, lengths, token_lengths, skippable)
    rest, alone = forward_sum_loss(scores[1:], lengths[1:], token_lengths[1:], skippable[1:])
    torch.testing.assert_close(both, rest)
    (gradient,) = torch.autograd.grad(both, scores)
    assert gradient.isfinite().all() and not gradient[0].any()
    tokens = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    torch.testing.assert_close(
        frame_loss(scores, lengths, tokens, occupancy),
        frame_loss(scores[1:], lengths[1:], tokens[1:], alone),
    )

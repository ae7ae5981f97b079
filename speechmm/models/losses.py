"""Computes the losses of recognition, per token so that batch size does not matter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.models.forward_sum import forward_backward, gather_tokens
from speechmm.models.front_end import length_mask
from speechmm.models.precision import at_least_float32
from speechmm.text.tokenizer import BLANK

IGNORED = -100


def ctc_loss(
    log_probs: Float[Tensor, "batch enc_frames vocab"],
    lengths: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch tokens"],
    token_lengths: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Connectionist temporal classification, nats per token.

    Utterances that have too few frames for their tokens are left out, of the tokens too. On a CPU
    this is torch's function; elsewhere that one copies lengths from and to the host and waits for
    both, so it is the sum over all alignments with skippable blanks (:func:`forward_backward`).

    Source: Graves et al. 2006.
    """
    log_probs = at_least_float32(log_probs)
    possible = ctc_frames_needed(tokens, token_lengths) <= lengths
    if log_probs.device.type == "cpu":
        nats = F.ctc_loss(
            log_probs.transpose(0, 1).float(),
            tokens,
            lengths,
            token_lengths,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
    else:
        nats = ctc_nats(log_probs, lengths, tokens, token_lengths)
    nats = torch.where(possible, nats, 0.0)
    return nats.sum() / (token_lengths * possible).sum().clamp(min=1)


def ctc_frames_needed(
    tokens: Int[Tensor, "batch tokens"], token_lengths: Int[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """Fewest frames that CTC can write each text in: one a token, one between equal neighbours."""
    inside = length_mask(token_lengths, tokens.shape[1])[:, 1:]
    doubled = (tokens[:, 1:] == tokens[:, :-1]) & inside
    return token_lengths + doubled.sum(dim=1)


def ctc_nats(
    log_probs: Float[Tensor, "batch enc_frames vocab"],
    lengths: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch tokens"],
    token_lengths: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Minus the log-probability of each text by CTC, infinite where it is impossible.

    A text with a blank before, between and after its tokens is a sequence of states like any other;
    a frame may leave out the blanks but those between equal tokens.
    """
    batch, longest = tokens.shape
    states = tokens.new_full((batch, 2 * longest + 1), BLANK)
    states[:, 1::2] = tokens
    skippable = torch.zeros_like(states, dtype=torch.bool)
    skippable[:, 0::2] = True
    skippable[:, 2:-1:2] = tokens[:, 1:] != tokens[:, :-1]
    scores = gather_tokens(log_probs, states)
    totals, _ = forward_backward(scores, lengths, 2 * token_lengths + 1, skippable)
    return -totals


def consistency_loss(
    log_probs: Float[Tensor, "batch enc_frames vocab"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """How far two views of the same utterances disagree frame by frame, nats per token.

    The second half of the batch holds the other view of the first half. Each view learns from the
    other one's distribution, which gets no gradient. Source: Yao et al. 2025, "CR-CTC",
    equation 4.
    """
    one, two = at_least_float32(log_probs).chunk(2)
    valid = length_mask(lengths, log_probs.shape[1]).chunk(2)[0][:, :, None]
    total = one.new_zeros(())
    for student, teacher in ((one, two.detach()), (two, one.detach())):
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True)
        total = total + (divergence * valid).sum()
    return total / token_lengths.sum().clamp(min=1)


def attention_loss(
    logits: Float[Tensor, "batch positions vocab"],
    tokens: Int[Tensor, "batch tokens"],
    token_lengths: Int[Tensor, " batch"],
    *,
    eos: int,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """Label-smoothed cross-entropy of each token and the end, nats per position."""
    longest = tokens.shape[1]
    targets = F.pad(tokens, (0, 1))
    valid = length_mask(token_lengths + 1, longest + 1)
    targets = targets.masked_fill(~valid, IGNORED)
    ends = torch.arange(longest + 1, device=tokens.device)[None, :] == token_lengths[:, None]
    targets = targets.masked_fill(ends, eos)
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        targets.flatten(),
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
    )

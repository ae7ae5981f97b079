"""Computes the losses of recognition, per token so that batch size does not matter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.models.front_end import length_mask
from speechmm.text.tokenizer import BLANK

IGNORED = -100


def ctc_loss(
    log_probs: Float[Tensor, "batch enc_frames vocab"],
    lengths: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch tokens"],
    token_lengths: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Connectionist temporal classification, nats per token; impossible utterances count zero.

    Source: Graves et al. 2006.
    """
    total = F.ctc_loss(
        log_probs.transpose(0, 1).float(),
        tokens,
        lengths,
        token_lengths,
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )
    return total / token_lengths.sum().clamp(min=1)


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
    one, two = log_probs.chunk(2)
    valid = length_mask(lengths, log_probs.shape[1]).chunk(2)[0][:, :, None]
    total = log_probs.new_zeros(())
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

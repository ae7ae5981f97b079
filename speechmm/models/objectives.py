"""The losses: one pure function each, per token or frame, so that batch size does not matter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.models.front_end import length_mask

BLANK = 0
IGNORED = -100
NO_BLANK = -1e4  # log-probability that rules a state out without the NaNs of -inf


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


def beta_binomial_log_prior(
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    frames: int,
    tokens: int,
    *,
    scaling: float = 1.0,
) -> Float[Tensor, "batch frames tokens"]:
    """Log-probability of token ``k`` at frame ``t`` before anything is heard: near the diagonal.

    Beta-binomial over ``k`` with alpha = scaling * (t + 1), beta = scaling * (frames - t).
    Source: Badlani et al. 2022, section 3.2; Shih et al. 2021 (RAD-TTS), appendix A.
    """
    device = lengths.device
    t = torch.arange(frames, device=device, dtype=torch.float32)[None, :, None]
    k = torch.arange(tokens, device=device, dtype=torch.float32)[None, None, :]
    total = lengths.to(torch.float32)[:, None, None]
    n = (token_lengths.to(torch.float32) - 1).clamp(min=0)[:, None, None]
    alpha = scaling * (t + 1)
    beta = scaling * (total - t).clamp(min=1)
    k_in = torch.minimum(k, n)
    choose = torch.lgamma(n + 1) - torch.lgamma(k_in + 1) - torch.lgamma(n - k_in + 1)
    joint = _log_beta(k_in + alpha, n - k_in + beta) - _log_beta(alpha, beta)
    return choose + joint


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def forward_sum_loss(
    logits: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    *,
    log_prior: Float[Tensor, "batch frames tokens"] | None = None,
) -> Float[Tensor, ""]:
    """Negative log of the sum over all monotonic alignments, nats per frame.

    Every frame belongs to one token, every token to one frame or more, in order. Computed with
    CTC over "token positions" as labels and a blank that is ruled out.
    Source: Badlani et al. 2022, section 3.1.
    """
    if log_prior is not None:
        logits = logits + log_prior
    log_probs = logits.float().log_softmax(dim=-1).clamp(min=NO_BLANK)
    log_probs = F.pad(log_probs, (1, 0), value=NO_BLANK)
    batch, _, tokens = logits.shape
    targets = torch.arange(1, tokens + 1, device=logits.device).expand(batch, tokens)
    total = F.ctc_loss(
        log_probs.transpose(0, 1),
        targets,
        lengths,
        token_lengths,
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    possible = token_lengths <= lengths
    return total[possible].sum() / lengths.sum().clamp(min=1)

"""Computes the losses of alignment: forward sum, its priors, and the frame loss.

Pure functions, per frame so that batch size does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.models.front_end import length_mask
from speechmm.models.kernels import dispatch as kernels


def beta_binomial_log_prior(
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    frames: int,
    tokens: int,
    *,
    scaling: float = 1.0,
) -> Float[Tensor, "batch frames tokens"]:
    """Log-probability of token ``k`` at frame ``t`` before the audio is seen: near the diagonal.

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


class _ForwardBackward(torch.autograd.Function):
    """The forward-backward sum of a batch; its gradient is the occupancy it computes anyway."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, lengths: Tensor, token_lengths: Tensor, skippable: Tensor
    ) -> tuple[Tensor, Tensor]:
        totals, occupancy = kernels.forward_backward(scores, lengths, token_lengths, skippable)
        occupancy = occupancy.to(torch.promote_types(scores.dtype, torch.float32))
        ctx.save_for_backward(occupancy)
        ctx.mark_non_differentiable(occupancy)
        ctx.scores_dtype = scores.dtype
        return totals.to(occupancy.dtype), occupancy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (occupancy,) = ctx.saved_tensors
        gradient = occupancy * gradients[0][:, None, None]
        return gradient.to(ctx.scores_dtype), None, None, None


def forward_backward(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch frames tokens"]]:
    """Log of the sum over all monotonic alignments, and each frame's share in each token.

    Every frame belongs to one token, in order; every token has one frame or more, but those that
    are skippable may have none. The sum runs where the scores are (:mod:`dispatch`), at full
    precision whatever theirs.

    Returns:
        The sums (-inf where no alignment exists) and the occupancies, which have no gradient; in
        float32, or float64 where the scores are.

    Source: Badlani et al. 2022, section 3.1; Rabiner 1989, equations 19 to 27.
    """
    out: tuple[Tensor, Tensor] = _ForwardBackward.apply(scores, lengths, token_lengths, skippable)
    return out


def label_scores(
    log_probs: Float[Tensor, "batch frames vocab"],
    lengths: Int[Tensor, " batch"],
    prior_weight: float,
    sum_over_processes: Callable[[Tensor], Tensor] = lambda values: values,
) -> tuple[Float[Tensor, "batch frames vocab"], Float[Tensor, " vocab"]]:
    """Posteriors over priors: the evidence of a frame for a token beyond how frequent that token is.

    The prior is the batch's own mean posterior and carries gradient: with a weight of 1 the
    forward-sum loss then maximises the mutual information of frames and tokens, and no token
    gains by absorbing frames.

    Args:
        log_probs: Posteriors of every frame.
        lengths: Valid frames of every utterance.
        prior_weight: How much of the prior is divided out, in [0, 1].
        sum_over_processes: Makes the prior that of a batch several processes share; with gradient.

    Returns:
        The scores, not normalised, and the prior (detached).
    """
    valid = length_mask(lengths, log_probs.shape[1])[:, :, None]
    frames = sum_over_processes(lengths.sum())
    marginal = sum_over_processes((log_probs.exp() * valid).sum(dim=(0, 1))) / frames
    scores = log_probs - prior_weight * marginal.clamp(min=1e-8).log()
    return scores, marginal.detach()


def silence_log_prior(
    features: Float[Tensor, "batch frames n_mels"],
    lengths: Int[Tensor, " batch"],
    silent: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "batch frames tokens"]:
    """Raises speech tokens in loud frames and silence in soft ones, by the utterance's own level.

    The level is the mean normalised log-mel, in standard deviations from the utterance's mean.
    """
    valid = length_mask(lengths, features.shape[1]).to(features.dtype)
    count = lengths[:, None].clamp(min=1).to(features.dtype)
    level = features.mean(dim=-1)
    centred = (level - (level * valid).sum(dim=1, keepdim=True) / count) * valid
    spread = (centred.square().sum(dim=1, keepdim=True) / count).sqrt().clamp(min=1e-3)
    sign = 1.0 - 2.0 * silent.to(features.dtype)
    return (centred / spread)[:, :, None] * sign[:, None, :]


GUIDE_SLOPE = 0.5
"""Nats for every frame that a token is from where a guide has it. Word edges of the universal aligner are
off by one or two frames of 10 ms (median), which costs a nat."""


def guided_log_prior(
    guides: Float[Tensor, "batch tokens 2"],
    frames: int,
    unguided: Float[Tensor, "batch frames tokens"],
) -> Float[Tensor, "batch frames tokens"]:
    """Lowers a token by its distance from where it is thought to be; not normalised over the tokens.

    Args:
        guides: First and last frame of each token, with fractions, infinite where there is no end; NaN in
            rows of which nothing is known.
        frames: Of the batch.
        unguided: The prior of these rows.
    """
    place = torch.arange(frames, device=guides.device, dtype=torch.float32)[None, :, None]
    first, last = guides.float()[:, None].unbind(dim=-1)
    distance = (first - place).clamp(min=0) + (place - last).clamp(min=0)
    unknown = guides[:, :1, :1].isnan()
    return torch.where(unknown, unguided, -GUIDE_SLOPE * distance)


def gather_tokens(
    values: Float[Tensor, "batch frames vocab"], tokens: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch frames tokens"]:
    """The columns of an utterance's own tokens."""
    return values.gather(2, tokens[:, None, :].expand(-1, values.shape[1], -1))


def forward_sum_loss(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
    *,
    log_prior: Float[Tensor, "batch frames tokens"] | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch frames tokens"]]:
    """Negative sum of :func:`forward_backward`, nats per frame, and the soft alignment of it.

    Utterances that cannot be aligned are left out, of the frames too.
    """
    if log_prior is not None:
        scores = scores + log_prior
    totals, occupancy = forward_backward(scores, lengths, token_lengths, skippable)
    possible = totals > float("-inf")
    nats = -torch.where(possible, totals, 0.0).sum()
    return nats / (lengths * possible).sum().clamp(min=1), occupancy


def frame_loss(
    log_probs: Float[Tensor, "batch frames vocab"],
    lengths: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch tokens"],
    occupancy: Float[Tensor, "batch frames tokens"],
) -> Float[Tensor, ""]:
    """Cross-entropy of a soft alignment, nats per frame; utterances without one are left out."""
    picked = gather_tokens(log_probs, tokens)
    return -(picked * occupancy).sum() / aligned_frames(lengths, occupancy).clamp(min=1)


def aligned_frames(
    lengths: Int[Tensor, " batch"], occupancy: Float[Tensor, "batch frames tokens"]
) -> Int[Tensor, ""]:
    """How many frames the utterances have that can be aligned."""
    aligned = occupancy[:, :1].any(dim=2).any(dim=1)
    return (lengths * aligned).sum()

"""Where the decoder should listen: what the task ``align`` found, turned to encoder frames."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.data.batch import Batch
from speechmm.models.front_end import length_mask
from speechmm.text.tokenizer import SIL

MARGIN = 2
"""Encoder frames to each side of a token that are as good as its own: neighbours tell of it too."""

FLOOR = 1e-3
"""What a frame elsewhere counts, so that a wrong alignment costs 7 nats at most."""


def token_windows(
    batch: Batch,
    occupancy: Float[Tensor, "batch frames align_tokens"],
    counts: Int[Tensor, " vocab_size"],
    subsampling: int,
    enc_frames: int,
) -> tuple[Float[Tensor, "batch tokens enc_frames"], Bool[Tensor, "batch tokens"]]:
    """Which encoder frames tell of each token: 1 where it is said or nearly, 0 elsewhere.

    Args:
        batch: With tokens and aligned tokens of the same texts.
        occupancy: Share of each feature frame in each aligned token.
        counts: Of ``Tokenizer.aligned_counts``.
        subsampling: Feature frames per encoder frame.
        enc_frames: Encoder frames, with padding.

    Returns:
        The windows, and which tokens have one: not spaces, not padding, and none of a text
        whose tokens and aligned tokens do not add up.
    """
    units = (batch.align_tokens != SIL) & length_mask(
        batch.align_lengths, batch.align_tokens.shape[1]
    )
    spoken = length_mask(batch.token_lengths, batch.tokens.shape[1])
    covered = counts.to(batch.tokens.device)[batch.tokens] * spoken
    ends = covered.cumsum(dim=1)
    agree = covered.sum(dim=1) == units.sum(dim=1)
    number = units.cumsum(dim=1)[:, None, :]  # of each unit in its text, from 1 on
    owned = units[:, None, :] & (number <= ends[:, :, None])
    owned &= number > (ends - covered)[:, :, None]
    said = owned.to(occupancy.dtype) @ occupancy.transpose(1, 2)
    said = F.pad(said, (0, enc_frames * subsampling - occupancy.shape[1]))
    windows = F.max_pool1d(
        said, (2 * MARGIN + 1) * subsampling, stride=subsampling, padding=MARGIN * subsampling
    )
    return windows, (covered > 0) & agree[:, None]


def guidance_loss(
    log_attention: Float[Tensor, "batch positions enc_frames"],
    windows: Float[Tensor, "batch tokens enc_frames"],
    guided: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Minus the logarithm of the attention that lies in a token's window, nats per guided token.

    Nothing is asked of how it is spread there. Source of the idea: Tachibana et al. 2018,
    "Efficiently Trainable Text-to-Speech System Based on Deep Convolutional Networks with Guided
    Attention", section 4, with the model's own alignment in place of the diagonal.

    Args:
        log_attention: Of each position, which predicts the token of the same index; the last one
            predicts the end.
        windows: Of :func:`token_windows`.
        guided: Likewise.
    """
    inside = log_attention[:, :-1].float() + windows.clamp(min=FLOOR).log()
    return -(inside.logsumexp(dim=2) * guided).sum() / guided.sum().clamp(min=1)

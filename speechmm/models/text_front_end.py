"""Stretches texts in time, so that the encoder's layers read them as they read speech."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.models.front_end import length_mask

KERNEL = 5
"""Encoder frames that one frame is smoothed over: units run into each other, as sounds do."""
STATISTICS_SHARE = 0.01
"""Weight of one batch in the running statistics of durations."""


def stretch(
    durations: Float[Tensor, "batch tokens"],
    frames: Int[Tensor, " batch"],
    enc_frames: int,
    subsampling: int | float,
) -> Float[Tensor, "batch enc_frames tokens"]:
    """The share that each token has in each encoder frame, when they follow one another.

    Encoder frame ``j`` is centred on feature frame ``j * subsampling`` and as long as the distance to
    the next one. Shares of a frame add up to 1, those of frames past the end to 0.

    Args:
        durations: In proportion; 0 for tokens that are left out, and for padding.
        frames: Feature frames that all tokens of a text have together.
        enc_frames: Encoder frames to describe, padding included.
        subsampling: Feature frames per encoder frame.
    """
    ends = durations.cumsum(dim=1)
    ends = ends * (frames[:, None] / ends[:, -1:].clamp(min=1e-6))
    starts = F.pad(ends[:, :-1], (1, 0))
    # feature frame t lasts from t to t + 1 here, so its centre is at t + 0.5
    centres = torch.arange(enc_frames, device=durations.device) * subsampling + 0.5
    lower = (centres - subsampling / 2)[None, :, None]
    upper = (centres + subsampling / 2)[None, :, None]
    shared = torch.minimum(ends[:, None, :], upper) - torch.maximum(starts[:, None, :], lower)
    shared = shared.clamp(min=0)
    return shared / shared.sum(dim=2, keepdim=True).clamp(min=1e-6)


def mask_units(
    lengths: Int[Tensor, " batch"], tokens: int, *, share: float, run: int
) -> Bool[Tensor, "batch tokens"]:
    """True for runs of ``run`` tokens that begin anywhere; a little less than ``share`` of all tokens.

    Args:
        lengths: Tokens of each text.
        tokens: Of the longest, padding included.
        share: Of tokens, in [0, 1).
        run: Tokens masked together.
    """
    begins = torch.rand(len(lengths), tokens, device=lengths.device) < share / run
    spread = F.max_pool1d(F.pad(begins.float(), (run - 1, 0))[:, None], run, stride=1)[:, 0]
    return (spread > 0) & length_mask(lengths, tokens)


class DurationStatistics(nn.Module):
    """How long each unit lasts: mean and spread of the logarithm, gathered from alignments.

    Old batches fade out, as early alignments are poor. A unit that has not been heard lasts as long as
    all others on average.
    """

    def __init__(self, vocab_size: int):
        super().__init__()
        self.gathered: Tensor
        self.register_buffer("gathered", torch.zeros(vocab_size, 3))  # number, sum, sum of squares

    @torch.no_grad()
    def summary(
        self,
        durations: Float[Tensor, "batch tokens"],
        tokens: Int[Tensor, "batch tokens"],
        lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "vocab 3"]:
        """Number, sum and sum of squares of ``log(1 + frames)`` of every unit of a batch."""
        logs = durations.float().clamp(min=0).log1p()
        valid = length_mask(lengths, tokens.shape[1]).float()
        values = torch.stack([valid, valid * logs, valid * logs.square()], dim=2)
        total = torch.zeros_like(self.gathered)
        return total.index_add_(0, tokens.flatten(), values.flatten(0, 1))

    @torch.no_grad()
    def learn(self, summary: Float[Tensor, "vocab 3"]) -> None:
        """Adds a batch (or those of all processes), the earlier ones fading out."""
        self.gathered.mul_(1.0 - STATISTICS_SHARE).add_(summary)

    @torch.no_grad()
    def sample(
        self,
        tokens: Int[Tensor, "batch tokens"],
        lengths: Int[Tensor, " batch"],
        silent: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens"]:
        """Feature frames of every token, drawn at random; 0 at padding.

        A unit that is not silent has one frame or more; a silence may have none.
        """
        average = self.gathered.sum(dim=0)
        average = average / average[:1].clamp(min=1)
        smoothed = (
            self.gathered + average
        )  # as if each had been seen once more, lasting the average
        number = smoothed[:, 0].clamp(min=1e-6)
        mean = smoothed[:, 1] / number
        spread = (smoothed[:, 2] / number - mean.square()).clamp(min=0).sqrt()
        drawn = mean[tokens] + spread[tokens] * torch.randn(tokens.shape, device=tokens.device)
        frames = drawn.expm1()
        frames = torch.where(silent, frames.clamp(min=0), frames.clamp(min=1))
        return frames * length_mask(lengths, tokens.shape[1])


class TextFrontEnd(nn.Module):
    """Vectors of tokens, stretched to encoder frames, smoothed and normed: a front end for text.

    It ends as the audio front end does. The idea: Sainath et al. 2022, "JOIST", section 3; Chen et al.
    2022, "MAESTRO", section 2.1.
    """

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.masked = nn.Parameter(torch.zeros(width))
        self.smooth = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(width)
        self.durations = DurationStatistics(vocab_size)

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        shares: Float[Tensor, "batch enc_frames tokens"],
        lengths: Int[Tensor, " batch"],
        masked: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch enc_frames width"]:
        """The encoder's input.

        Args:
            tokens: Of alignment, silences included.
            shares: Of :func:`stretch`.
            lengths: Valid encoder frames.
            masked: Tokens in whose place a mask is seen.
        """
        vectors = self.embedding(tokens)
        if masked is not None:
            vectors = torch.where(masked[:, :, None], self.masked.to(vectors.dtype), vectors)
        keep = length_mask(lengths, shares.shape[1])[:, :, None].to(vectors.dtype)
        x = (shares.to(vectors.dtype) @ vectors) * keep
        update: Tensor = self.smooth(x.transpose(1, 2)).transpose(1, 2)
        # as the audio front end does: what layers add their updates to is in the weights' precision
        out: Tensor = self.norm(x + F.silu(update)).to(self.norm.weight.dtype)
        return out

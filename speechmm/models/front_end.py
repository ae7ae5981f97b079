"""Subsamples log-mel frames by convolutions: the audio front end, 10 ms to 20, 40 or 80 ms."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def length_mask(lengths: Int[Tensor, " batch"], longest: int) -> Bool[Tensor, "batch positions"]:
    """True for the valid positions of every item."""
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


class ConvFrontEnd(nn.Module):
    """Convolutions over time, each halving the frame rate; the mel bands are their channels.

    Narrow two-dimensional convolutions cost a CPU two to six times as much, depending on the memory
    format (docs/decisions/0009). Encoder frame ``j`` is centred on feature frame ``j *
    subsampling``; an utterance of n frames gives ``ceil(n / subsampling)`` encoder frames. Padded
    frames are set to zero after every layer, so padding never changes an utterance.
    """

    def __init__(self, n_mels: int, channels: int, d_model: int, subsampling: int):
        super().__init__()
        self.subsampling = subsampling
        halvings = {2: 1, 4: 2, 8: 3}[subsampling]
        widths = [n_mels, *[channels] * (halvings - 1), d_model]
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, 5, stride=2, padding=2)
            for before, after in itertools.pairwise(widths)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch enc_frames d_model"], Int[Tensor, " batch"]]:
        """Encoder input and its lengths."""
        x = features.to(self.norm.weight.dtype).transpose(1, 2)
        for layer in self.layers:
            x = nn.functional.silu(layer(x), inplace=not torch.is_grad_enabled())
            lengths = (lengths + 1) // 2
            x = x.mul_(length_mask(lengths, x.shape[2])[:, None, :].to(x.dtype))
        # under autocast too, what the layers add their updates to is in the weights' precision
        return self.norm(x.transpose(1, 2)).to(self.norm.weight.dtype), lengths

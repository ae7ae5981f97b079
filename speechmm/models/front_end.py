"""The convolutional audio front end: log-mel frames at 10 ms to encoder frames at 40 or 80 ms."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def length_mask(lengths: Int[Tensor, " batch"], longest: int) -> Bool[Tensor, "batch positions"]:
    """True for the valid positions of every item."""
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


class ConvFrontEnd(nn.Module):
    """Narrow 3x3 convolutions, each halving time and frequency, then a projection.

    The first convolution is dense, the others depthwise-separable, which keeps the front end
    a small share of a training step. Encoder frame ``j`` is centred on feature frame
    ``j * subsampling``; an utterance of n frames gives ``ceil(n / subsampling)`` encoder frames.
    Padded frames are set to zero after every layer, so padding never changes an utterance.
    """

    def __init__(self, n_mels: int, channels: int, d_model: int, subsampling: int):
        super().__init__()
        self.subsampling = subsampling
        halvings = {2: 1, 4: 2, 8: 3}[subsampling]
        layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, stride=2, padding=1)]
        for _ in range(halvings - 1):
            layers.append(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels),
                    nn.Conv2d(channels, channels, 1),
                )
            )
        self.layers = nn.ModuleList(layers)
        bands = n_mels
        for _ in range(halvings):
            bands = (bands + 1) // 2
        self.projection = nn.Linear(channels * bands, d_model)

    def forward(
        self,
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch enc_frames d_model"], Int[Tensor, " batch"]]:
        """Encoder input and its lengths."""
        x = features[:, None]
        for layer in self.layers:
            x = nn.functional.silu(layer(x))
            lengths = (lengths + 1) // 2
            x = x * length_mask(lengths, x.shape[2])[:, None, :, None].to(x.dtype)
        batch, channels, frames, bands = x.shape
        x = x.permute(0, 2, 1, 3).reshape(batch, frames, channels * bands)
        return self.projection(x), lengths

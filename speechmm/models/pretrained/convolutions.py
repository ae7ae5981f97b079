"""The convolutions over the waveform by which encoders of the wav2vec 2.0 family begin.

Source: Baevski et al. 2020, "wav2vec 2.0", section 2. Weights have the names of Hugging Face's model.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.models.front_end import length_mask
from speechmm.models.precision import at_least_float32
from speechmm.models.pretrained.configs import Wav2Vec2Config


class ConvLayer(nn.Module):
    """A convolution of the waveform encoder, with its norm."""

    def __init__(self, config: Wav2Vec2Config, number: int):
        super().__init__()
        dims = (1, *config.conv_dim)
        self.stride, self.kernel = config.conv_stride[number], config.conv_kernel[number]
        self.conv = nn.Conv1d(
            dims[number], dims[number + 1], self.kernel, self.stride, bias=config.conv_bias
        )
        self.kind = config.feat_extract_norm
        self.layer_norm: nn.Module | None = None
        if self.kind == "layer":
            self.layer_norm = nn.LayerNorm(dims[number + 1])
        elif number == 0:
            self.layer_norm = nn.GroupNorm(dims[1], dims[1])

    def forward(
        self, x: Float[Tensor, "batch channels positions"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch out_channels out_positions"], Int[Tensor, " batch"]]:
        """One convolution, norm and GELU, and the lengths after it."""
        x = self.conv(x)
        lengths = ((lengths - self.kernel) // self.stride + 1).clamp(min=0)
        if isinstance(self.layer_norm, nn.LayerNorm):
            x = self.layer_norm(x.transpose(1, 2)).transpose(1, 2)
        elif isinstance(self.layer_norm, nn.GroupNorm):
            x = _norm_over_time(x, lengths, self.layer_norm)
        return nn.functional.gelu(x), lengths


def _norm_over_time(
    x: Float[Tensor, "batch channels positions"], lengths: Int[Tensor, " batch"], norm: nn.GroupNorm
) -> Float[Tensor, "batch channels positions"]:
    """Normalises every channel over the valid positions, so that padding has no part in it.

    In float32: sums of squares over seconds are too large for float16.
    """
    keep = length_mask(lengths, x.shape[2])[:, None, :]
    exact = at_least_float32(x)
    count = lengths.clamp(min=1)[:, None, None].to(exact.dtype)
    mean = exact.masked_fill(~keep, 0.0).sum(dim=2, keepdim=True) / count
    centred = (exact - mean).masked_fill(~keep, 0.0)
    variance = centred.square().sum(dim=2, keepdim=True) / count
    scaled = (centred * torch.rsqrt(variance + norm.eps)).to(x.dtype)
    return scaled * norm.weight[:, None] + norm.bias[:, None]


class FeatureEncoder(nn.Module):
    """Convolutions over the waveform."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.conv_layers = nn.ModuleList(
            ConvLayer(config, number) for number in range(len(config.conv_dim))
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the waveforms it reads: that of its weights."""
        first: Any = self.conv_layers[0]
        dtype: torch.dtype = first.conv.weight.dtype
        return dtype

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames channels"], Int[Tensor, " batch"]]:
        """Vectors of padded waveforms, and how many are valid."""
        x = waveform[:, None, :]
        for layer in self.conv_layers:
            x, lengths = layer(x, lengths)
        return x.transpose(1, 2), lengths


class FeatureProjection(nn.Module):
    """From the width of the convolutions to that of the layers."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        channels = config.conv_dim[-1]
        self.layer_norm = nn.Identity()
        if config.feat_proj_layer_norm:
            self.layer_norm = nn.LayerNorm(channels, eps=config.layer_norm_eps)  # type: ignore[assignment]
        self.projection = nn.Linear(channels, config.hidden_size)

    def forward(
        self, x: Float[Tensor, "batch frames channels"]
    ) -> Float[Tensor, "batch frames width"]:
        """Norm, then a linear map."""
        projected: Tensor = self.projection(self.layer_norm(x))
        return projected


def unit_variance(
    waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch samples"]:
    """Zero mean and unit variance over the valid samples of each; zero at padding."""
    keep = length_mask(lengths, waveform.shape[1])
    count = lengths.clamp(min=1)[:, None].to(waveform.dtype)
    centred = waveform - waveform.masked_fill(~keep, 0.0).sum(dim=1, keepdim=True) / count
    centred = centred.masked_fill(~keep, 0.0)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-7)

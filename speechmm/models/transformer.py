"""Stacks encoder and decoder layers: pre-norm, rotary positions, caches passed as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from speechmm.errors import ConfigError
from speechmm.models.attention import (
    CrossAttention,
    Rotary,
    SelfAttention,
    attention_bias,
    window_bias,
)
from speechmm.models.dropout import Dropout
from speechmm.models.kv_cache import (
    DecoderCache,
    KVCache,
    LayerCache,
    TreeKVCache,
    TreeLayerCache,
)

LARGEST_SIZE = 1 << 16
"""Of any dimension: the widest layers of the largest models are half as wide."""
MOST_LAYERS = 1000


def check_sizes(config: object, *names: str, least: int = 1, most: int = LARGEST_SIZE) -> None:
    """Refuses sizes that nothing can be built with, or that would take all memory.

    Args:
        config: Has them.
        names: Of the sizes.
        least: The smallest that makes sense.
        most: The largest.

    Raises:
        ConfigError: One is too small, or too large.
    """
    for name in names:
        size = getattr(config, name)
        if not least <= size <= most:
            raise ConfigError(
                f"model.network: {name} is {size}; expected {least} to {most}. Correct the config."
            )


def check_dimensions(d_model: int, heads: int, dropout: float) -> None:
    """Refuses dimensions that no stack can have.

    Raises:
        ConfigError: The width of a head is no even number, or dropout is no share below 1.
    """
    if heads < 1 or d_model < 1 or d_model % heads or (d_model // heads) % 2:
        raise ConfigError(
            f"model.network: d_model {d_model} with {heads} heads; expected an even width per head. "
            "Choose d_model as a multiple of 2 * heads."
        )
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"model.network: dropout is {dropout}; expected 0 to below 1. Lower it.")


def add_update(x: Tensor, update: Tensor) -> Tensor:
    """The sum, in the place of ``update``: new memory is slow on a CPU.

    Under autocast the sum stays in the precision of ``x``, which is the higher one.
    """
    return update.add_(x) if update.dtype == x.dtype else x + update


class FeedForward(nn.Module):
    """Two linear layers with SiLU between."""

    def __init__(self, d_model: int, ff_dim: int):
        super().__init__()
        self.up = nn.Linear(d_model, ff_dim)
        self.down = nn.Linear(ff_dim, d_model)

    def forward(self, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
        """Acts on every position alone."""
        out: Tensor = self.down(F.silu(self.up(x), inplace=not torch.is_grad_enabled()))
        return out


class ConvModule(nn.Module):
    """Gated depthwise convolution over time.

    Layer norm stands where the original has batch norm, so that an utterance's output does not
    depend on its batch. Source: Gulati et al. 2020, "Conformer", figure 2.
    """

    def __init__(self, d_model: int, kernel: int):
        super().__init__()
        self.gate = nn.Linear(d_model, 2 * d_model)
        self.depthwise = nn.Conv1d(
            d_model, d_model, kernel, padding=kernel // 2, groups=d_model, bias=False
        )
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        keep: Float[Tensor, "batch positions 1"] | None,
    ) -> Float[Tensor, "batch positions d_model"]:
        """Mixes neighbours; ``keep`` is 0 at padding so that padding stays silent."""
        x = F.glu(self.gate(x), dim=-1)
        if keep is not None:
            x = x.mul_(keep)
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.output(F.silu(self.norm(x)))
        return out


class EncoderLayer(nn.Module):
    """Self-attention, optional convolution, feed-forward: each pre-normed with a residual."""

    def __init__(self, d_model: int, heads: int, ff_dim: int, conv_kernel: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, heads)
        self.conv_norm = nn.LayerNorm(d_model) if conv_kernel else None
        self.conv = ConvModule(d_model, conv_kernel) if conv_kernel else None
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, ff_dim)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        rotary: Rotary,
        bias: Tensor | None,
        keep: Tensor | None,
    ) -> Float[Tensor, "batch positions d_model"]:
        """One layer."""
        x = add_update(x, self.dropout(self.attention(self.attention_norm(x), rotary, bias)))
        if self.conv is not None and self.conv_norm is not None:
            x = add_update(x, self.dropout(self.conv(self.conv_norm(x), keep)))
        return add_update(x, self.dropout(self.feed_forward(self.feed_forward_norm(x))))


def merge_frames(
    x: Float[Tensor, "batch positions d_model"], mask: Bool[Tensor, "batch positions"], stride: int
) -> tuple[Float[Tensor, "batch merged d_model"], Bool[Tensor, "batch merged"]]:
    """Means over ``stride`` neighbours, padding left out, and which of them hold any frame."""
    short = -x.shape[1] % stride
    batch, _, width = x.shape
    valid = F.pad(mask, (0, short)).view(batch, -1, stride)
    share = valid / valid.sum(dim=2, keepdim=True).clamp(min=1)
    groups = F.pad(x, (0, 0, 0, short)).view(batch, -1, stride, width)
    return torch.einsum("bgsd,bgs->bgd", groups, share.to(x.dtype)), valid[:, :, 0]


class TransformerEncoder(nn.Module):
    """Encoder layers over vectors of any front end.

    With ``middle_stride`` above 1 the layers between the first and the last work on means of so
    many neighbours, and what they add is repeated for each: a U-Net of rates. Source: Yao et al.
    2024, "Zipformer", section 3.1, without its bypass weights.
    """

    def __init__(
        self,
        *,
        d_model: int,
        heads: int,
        ff_dim: int,
        layers: int,
        conv_kernel: int,
        dropout: float,
        middle_stride: int = 1,
        attention_window: int = 0,
    ):
        super().__init__()
        self.d_model = d_model
        self.d_head = d_model // heads
        self.middle_stride = middle_stride
        self.attention_window = attention_window
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, heads, ff_dim, conv_kernel, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        mask: Bool[Tensor, "batch positions"],
    ) -> tuple[Float[Tensor, "batch positions d_model"], Float[Tensor, "batch positions d_model"]]:
        """Contextual vectors, and those half-way up, not yet normed.

        What stands at padded positions is meaningless.
        """
        x = self.dropout(x)
        half = len(self.layers) // 2
        # one rate: (batch, positions, d_model) throughout
        if self.middle_stride == 1:
            middle = self._run(x, mask, 0, half)
            x = self._run(middle, mask, half, len(self.layers))
            return self.norm(x), middle
        # two rates: the first and the last layer at the full one, those between at a fraction of it;
        # what the middle layers add to the merged frames is repeated and added to the full ones
        last = len(self.layers) - 1
        x = self._run(x, mask, 0, 1)
        merged, merged_mask = merge_frames(x, mask, self.middle_stride)
        lower = self._run(merged, merged_mask, 1, half)
        middle = x + self._repeat(lower - merged, x.shape[1])
        upper = self._run(lower, merged_mask, half, last)
        x = x + self._repeat(upper - merged, x.shape[1])
        return self.norm(self._run(x, mask, last, last + 1)), middle

    def _repeat(self, x: Tensor, positions: int) -> Tensor:
        return x.repeat_interleave(self.middle_stride, dim=1)[:, :positions]

    def _run(self, x: Tensor, mask: Tensor, first: int, end: int) -> Tensor:
        """Layers ``first`` to ``end - 1``."""
        bias = attention_bias(mask, like=x)
        keep = None if bias is None else mask[:, :, None].to(x.dtype)
        window = self.attention_window
        if window and (torch.compiler.is_exporting() or x.shape[1] > window + 1):
            near = window_bias(x.shape[1], window, like=x)
            bias = near if bias is None else near + bias
        rotary = Rotary(0, x.shape[1], self.d_head, like=x)
        for layer in self.layers[first:end]:
            x = layer(x, rotary, bias, keep)
        return x


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention unless it is left out, feed-forward."""

    def __init__(self, d_model: int, heads: int, ff_dim: int, dropout: float, *, cross: bool):
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attention = SelfAttention(d_model, heads)
        self.cross_norm = nn.LayerNorm(d_model) if cross else None
        self.cross_attention = CrossAttention(d_model, heads) if cross else None
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, ff_dim)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch tokens d_model"],
        rotary: Rotary,
        memory: Float[Tensor, "batch enc_frames d_model"] | None,
        bias: Tensor | None,
        *,
        with_attention: bool = False,
    ) -> tuple[Float[Tensor, "batch tokens d_model"], Tensor | None]:
        """All positions at once, and the first head's log-attention to the memory where asked for."""
        mixed = self.dropout(self.self_attention(self.self_norm(x), rotary, causal=True))
        x = add_update(x, mixed)
        attention = None
        if self.cross_attention is not None and self.cross_norm is not None and memory is not None:
            keys, values = self.cross_attention.project_memory(memory)
            normed = self.cross_norm(x)
            if with_attention:
                attention = self.cross_attention.first_head_log_probs(normed, memory, bias)
            mixed = self.dropout(self.cross_attention(normed, keys, values, bias))
            x = add_update(x, mixed)
        x = add_update(x, self.dropout(self.feed_forward(self.feed_forward_norm(x))))
        return x, attention

    def start(
        self, cache: KVCache, memory: Float[Tensor, "batch enc_frames d_model"] | None
    ) -> LayerCache:
        """An empty cache, with the memory projected once."""
        if self.cross_attention is None or memory is None:
            return LayerCache(cache)
        keys, values = self.cross_attention.project_memory(memory)
        return LayerCache(cache, keys.contiguous(), values.contiguous())

    def step(
        self,
        x: Float[Tensor, "batch beams d_model"],
        rotary: Rotary,
        cache: LayerCache,
        bias: Tensor | None,
    ) -> Float[Tensor, "batch beams d_model"]:
        """One new position for every hypothesis; the cache grows by it."""
        x = add_update(x, self.self_attention.step(self.self_norm(x), rotary, cache.self_attention))
        if self.cross_attention is not None and self.cross_norm is not None:
            assert cache.cross_keys is not None and cache.cross_values is not None
            keys, values = cache.cross_keys, cache.cross_values
            x = add_update(x, self.cross_attention(self.cross_norm(x), keys, values, bias))
        return add_update(x, self.feed_forward(self.feed_forward_norm(x)))


@dataclass
class DecoderOutput:
    """What a decoder stack gives for all positions at once."""

    vectors: Float[Tensor, "batch tokens d_model"]
    log_attention: Float[Tensor, "batch tokens enc_frames"] | None = None
    """Of the first head of the last layer, where asked for."""


class TransformerDecoder(nn.Module):
    """Causal layers with cross-attention to the encoder, or without for texts alone."""

    def __init__(
        self,
        *,
        d_model: int,
        heads: int,
        ff_dim: int,
        layers: int,
        dropout: float,
        cross: bool = True,
    ):
        super().__init__()
        self.d_model = d_model
        self.d_head = d_model // heads
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, heads, ff_dim, dropout, cross=cross) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "batch tokens d_model"],
        memory: Float[Tensor, "batch enc_frames d_model"] | None = None,
        memory_mask: Bool[Tensor, "batch enc_frames"] | None = None,
        *,
        with_attention: bool = False,
    ) -> DecoderOutput:
        """All positions at once, each seeing the positions before it and the whole memory."""
        bias = attention_bias(memory_mask, like=x)
        rotary = Rotary(0, x.shape[1], self.d_head, like=x)
        x = self.dropout(x)
        attention = None
        for number, layer in enumerate(self.layers, start=1):
            asked = with_attention and number == len(self.layers)
            x, attention = layer(x, rotary, memory, bias, with_attention=asked)
        return DecoderOutput(self.norm(x), attention)

    def start(
        self,
        batch: int,
        memory: Float[Tensor, "batch enc_frames d_model"] | None = None,
        memory_mask: Bool[Tensor, "batch enc_frames"] | None = None,
    ) -> DecoderCache:
        """A fresh cache with the memory projected once for every layer."""
        tree = TreeKVCache(len(self.layers), batch, like=next(self.parameters()))
        layers = [
            layer.start(TreeLayerCache(tree, number), memory)
            for number, layer in enumerate(self._decoder_layers)
        ]
        bias = None if memory is None else attention_bias(memory_mask, like=memory)
        return DecoderCache(layers, bias, batch, tree)

    def step(
        self, x: Float[Tensor, "rows d_model"], cache: DecoderCache
    ) -> Float[Tensor, "rows d_model"]:
        """One new position for every row; the cache grows by it."""
        rows, width = x.shape
        rotary = Rotary(cache.position, 1, self.d_head, like=x)
        x = x.view(cache.batch, rows // cache.batch, width)
        for layer, layer_cache in zip(self._decoder_layers, cache.layers, strict=True):
            x = layer.step(x, rotary, layer_cache, cache.bias)
        cache.position += 1
        out: Tensor = self.norm(x.view(rows, width))
        return out

    @property
    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.layers))

"""Stacks decoder layers: pre-norm, cross-attention, caches passed as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from speechmm.models.attention import CrossAttention, Rotary, SelfAttention, attention_bias
from speechmm.models.dropout import Dropout
from speechmm.models.kv_cache import (
    DecoderCache,
    KVCache,
    LayerCache,
    TreeKVCache,
    TreeLayerCache,
)
from speechmm.models.transformer import FeedForward, add_update


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention unless it is left out, feed-forward."""

    def __init__(
        self,
        d_model: int,
        heads: int,
        ff_dim: int,
        dropout: float,
        *,
        cross: bool,
        activation: str = "silu",
    ):
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attention = SelfAttention(d_model, heads)
        self.cross_norm = nn.LayerNorm(d_model) if cross else None
        self.cross_attention = CrossAttention(d_model, heads) if cross else None
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, ff_dim, activation)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch tokens d_model"],
        rotary: Rotary | None,
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
        rotary: Rotary | None,
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
    """Causal layers with cross-attention to the encoder, or without for texts alone.

    Attention turns keys by their places (rotary), or every place has a learned vector that is added to
    what stands there, as in Whisper's decoder. Places beyond the last such vector share it.
    """

    def __init__(
        self,
        *,
        d_model: int,
        heads: int,
        ff_dim: int,
        layers: int,
        dropout: float,
        cross: bool = True,
        positions: int = 0,
        activation: str = "silu",
    ):
        """Random weights.

        Args:
            d_model: Width of the vectors.
            heads: Of attention.
            ff_dim: Inner width of the feed-forward layers.
            layers: How many.
            dropout: Share of zeroed updates while training.
            cross: Whether they attend to a memory.
            positions: Learned vectors of places; 0 for rotary ones.
            activation: One of ``transformer.ACTIVATIONS``.
        """
        super().__init__()
        self.d_model = d_model
        self.d_head = d_model // heads
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, heads, ff_dim, dropout, cross=cross, activation=activation)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.positions = nn.Embedding(positions, d_model) if positions else None

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
        x, rotary = self._placed(x, 0)
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
        x, rotary = self._placed(x[:, None], cache.position)
        x = x.view(cache.batch, rows // cache.batch, width)
        for layer, layer_cache in zip(self._decoder_layers, cache.layers, strict=True):
            x = layer.step(x, rotary, layer_cache, cache.bias)
        cache.position += 1
        out: Tensor = self.norm(x.view(rows, width))
        return out

    def _placed(
        self, x: Float[Tensor, "batch tokens d_model"], start: int | Tensor
    ) -> tuple[Float[Tensor, "batch tokens d_model"], Rotary | None]:
        """What stands at the places from ``start`` on, with their vectors, or what turns keys by them."""
        if self.positions is None:
            return x, Rotary(start, x.shape[1], self.d_head, like=x)
        places = torch.arange(x.shape[1], device=x.device) + start
        return x + self.positions(places.clamp(max=self.positions.num_embeddings - 1)), None

    @property
    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast(list[DecoderLayer], list(self.layers))

"""Attends with rotary positions on the fused kernel; masks are bool with True = valid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.models.kv_cache import KVCache

ROTARY_BASE = 10000.0


def rotary_angles(
    start: int | Int[Tensor, ""], length: int, d_head: int, *, like: Tensor
) -> Float[Tensor, "positions d_half"]:
    """Angles of positions ``start .. start + length - 1`` (radians).

    Source: Su et al. 2021, "RoFormer", equation 34.
    """
    half = torch.arange(d_head // 2, device=like.device, dtype=torch.float32)
    inverse_frequency = ROTARY_BASE ** (-half / (d_head // 2))
    positions = torch.arange(length, device=like.device, dtype=torch.float32) + start
    return positions[:, None] * inverse_frequency[None, :]


class Rotary:
    """Cosines and sines of consecutive positions, computed once and shared by all layers."""

    def __init__(self, start: int | Int[Tensor, ""], length: int, d_head: int, *, like: Tensor):
        angles = rotary_angles(start, length, d_head, like=like)
        self.cos = torch.cat([angles.cos(), angles.cos()], dim=-1).to(like.dtype)
        self.sin = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(like.dtype)
        self._qkv_factors: tuple[Tensor, Tensor] | None = None

    def __call__(
        self, x: Float[Tensor, "*lead positions d_head"]
    ) -> Float[Tensor, "*lead positions d_head"]:
        """Rotates queries or keys by their positions."""
        return self._rotate(x, self.cos, self.sin)

    def rotate_qk(
        self, x: Float[Tensor, "three batch heads positions d_head"]
    ) -> Float[Tensor, "three batch heads positions d_head"]:
        """Rotates queries and keys and leaves the values, all in as few calls as one of them."""
        if self._qkv_factors is None:
            ones, zeros = torch.ones_like(self.cos), torch.zeros_like(self.sin)
            self._qkv_factors = (
                torch.stack([self.cos, self.cos, ones])[:, None, None],
                torch.stack([self.sin, self.sin, zeros])[:, None, None],
            )
        return self._rotate(x, *self._qkv_factors)

    @staticmethod
    def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, dims=-1), sin)


def attention_bias(
    mask: Bool[Tensor, "batch keys"] | None, *, like: Tensor
) -> Float[Tensor, "batch 1 1 keys"] | None:
    """Additive form of a key mask (0 where valid, -inf where not); None when nothing is masked.

    A batch without padding needs no bias at all, which keeps a CPU's fastest attention kernel. Other
    devices get one always: to look into the mask would wait for everything before it.
    """
    if mask is None:
        return None
    readable = mask.device.type == "cpu" and not torch.compiler.is_compiling()
    if readable and bool(mask.all()):
        return None
    bias = torch.zeros(mask.shape, dtype=like.dtype, device=like.device)
    return bias.masked_fill(~mask, float("-inf"))[:, None, None, :]


def window_bias(positions: int, window: int, *, like: Tensor) -> Float[Tensor, "1 1 keys keys"]:
    """Lets every position see those at most ``window`` away (0 there, very low elsewhere).

    Finite in every precision that autocast may choose, because a padded position may see nothing
    else and must not become NaN.
    """
    place = torch.arange(positions, device=like.device)
    far = (place[:, None] - place[None, :]).abs() > window
    bias = torch.zeros(positions, positions, dtype=like.dtype, device=like.device)
    return bias.masked_fill(far, torch.finfo(torch.float16).min / 2)[None, None]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, positions, d_model) -> (batch, heads, positions, d_head)."""
    batch, positions, width = x.shape
    return x.view(batch, positions, heads, width // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, positions, d_head) -> (batch, positions, d_model)."""
    batch, heads, positions, d_head = x.shape
    return x.transpose(1, 2).reshape(batch, positions, heads * d_head)


class SelfAttention(nn.Module):
    """Multi-head self-attention, with rotary positions or none."""

    def __init__(self, d_model: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def _project(
        self, x: Float[Tensor, "batch positions d_model"]
    ) -> Float[Tensor, "three batch heads positions d_head"]:
        """Queries, keys and values, not yet rotated."""
        batch, positions, width = x.shape
        projected: Tensor = self.query_key_value(x)
        projected = projected.view(batch, positions, 3, self.heads, width // self.heads)
        return projected.permute(2, 0, 3, 1, 4)

    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        rotary: Rotary | None,
        bias: Float[Tensor, "#batch 1 #positions positions"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "batch positions d_model"]:
        """Attends over all positions, or over the past ones only when ``causal``."""
        projected = self._project(x)
        query, key = projected[:2] if rotary is None else rotary(projected[:2])
        mixed = F.scaled_dot_product_attention(query, key, projected[2], bias, is_causal=causal)
        out: Tensor = self.output(merge_heads(mixed))
        return out

    def step(
        self, x: Float[Tensor, "batch beams d_model"], rotary: Rotary | None, cache: KVCache
    ) -> Float[Tensor, "batch beams d_model"]:
        """One new position for each hypothesis of each utterance; its cache grows by it."""
        projected = self._project(x)
        mixed = cache.attend(projected if rotary is None else rotary.rotate_qk(projected))
        out: Tensor = self.output(merge_heads(mixed))
        return out


class CrossAttention(nn.Module):
    """Multi-head attention from decoder positions to encoder frames (no positions of its own)."""

    def __init__(self, d_model: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def project_memory(
        self, memory: Float[Tensor, "batch enc_frames d_model"]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder output: once an utterance, whatever the search does."""
        key, value = self.key_value(memory).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def forward(
        self,
        x: Float[Tensor, "batch positions d_model"],
        keys: Float[Tensor, "batch heads enc_frames d_head"],
        values: Float[Tensor, "batch heads enc_frames d_head"],
        bias: Float[Tensor, "batch 1 1 enc_frames"] | None = None,
    ) -> Float[Tensor, "batch positions d_model"]:
        """Attends to the memory; ``positions`` may be time steps or the beams of one utterance."""
        query = split_heads(self.query(x), self.heads)
        mixed = F.scaled_dot_product_attention(query, keys, values, bias)
        out: Tensor = self.output(merge_heads(mixed))
        return out

    def first_head_log_probs(
        self,
        x: Float[Tensor, "batch positions d_model"],
        memory: Float[Tensor, "batch enc_frames d_model"],
        bias: Float[Tensor, "batch 1 1 enc_frames"] | None = None,
    ) -> Float[Tensor, "batch positions enc_frames"]:
        """Log-attention of the first head; no gradient flows through it into the memory."""
        width = x.shape[-1] // self.heads
        query = F.linear(x, self.query.weight[:width], self.query.bias[:width])
        projection = self.key_value
        key = F.linear(memory.detach(), projection.weight[:width], projection.bias[:width])
        scores = query @ key.transpose(1, 2) * width**-0.5
        scores = scores if bias is None else scores + bias[:, 0]
        out: Tensor = scores.float().log_softmax(dim=-1)
        return out

"""Stacks encoder layers (pre-norm, rotary positions), and holds what decoder layers share with them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from speechmm.errors import ConfigError
from speechmm.models.attention import Rotary, SelfAttention, attention_bias, window_bias
from speechmm.models.dropout import Dropout

LARGEST_SIZE = 1 << 16
"""Of any dimension: the widest layers of the largest models are half as wide."""
MOST_LAYERS = 1000
ACTIVATIONS = ("silu", "gelu")
"""Between the linear layers of a feed-forward layer."""


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
    """Two linear layers with one of ``ACTIVATIONS`` between."""

    def __init__(self, d_model: int, ff_dim: int, activation: str = "silu"):
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(d_model, ff_dim)
        self.down = nn.Linear(ff_dim, d_model)

    def forward(self, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_model"]:
        """Acts on every position alone."""
        inner = self.up(x)
        if self.activation == "gelu":
            inner = F.gelu(inner)
        else:
            inner = F.silu(inner, inplace=not torch.is_grad_enabled())
        out: Tensor = self.down(inner)
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

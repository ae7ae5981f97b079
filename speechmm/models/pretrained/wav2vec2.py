"""The encoders of the wav2vec 2.0 family: wav2vec 2.0, XLS-R, MMS, HuBERT and WavLM.

Sources: Baevski et al. 2020, "wav2vec 2.0"; Hsu et al. 2021, "HuBERT"; Chen et al. 2022, "WavLM"; Babu et
al. 2021, "XLS-R"; Pratap et al. 2023, "MMS". Weights have the names of Hugging Face's ``Wav2Vec2Model``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.models.encoder import Encoded
from speechmm.models.front_end import length_mask
from speechmm.models.pretrained.attention import SelfAttention
from speechmm.models.pretrained.configs import SAMPLES_A_FRAME, Wav2Vec2Config
from speechmm.models.pretrained.convolutions import (
    FeatureEncoder,
    FeatureProjection,
    unit_variance,
)


class ConvPositions(nn.Module):
    """Relative positions by a wide convolution; its weight norm is folded into the weight."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.kernel = config.num_conv_pos_embeddings
        self.conv = nn.Conv1d(
            config.hidden_size,
            config.hidden_size,
            self.kernel,
            padding=self.kernel // 2,
            groups=config.num_conv_pos_embedding_groups,
        )

    def forward(
        self, x: Float[Tensor, "batch frames width"]
    ) -> Float[Tensor, "batch frames width"]:
        """What is added to the vectors; ``x`` is zero at padding."""
        out = self.conv(x.transpose(1, 2))
        if self.kernel % 2 == 0:
            out = out[:, :, :-1]
        return nn.functional.gelu(out).transpose(1, 2)


class RelativeAttention(SelfAttention):
    """Attention with WavLM's gated relative position bias (Chen et al. 2022, section III-B)."""

    def __init__(self, config: Wav2Vec2Config, *, owns_buckets: bool):
        super().__init__(config.hidden_size, config.num_attention_heads)
        self.buckets, self.furthest = config.num_buckets, config.max_bucket_distance
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        self.gru_rel_pos_linear = nn.Linear(config.hidden_size // self.heads, 8)
        if owns_buckets:
            self.rel_attn_embed = nn.Embedding(self.buckets, self.heads)

    def position_bias(self, frames: int) -> Float[Tensor, "heads frames frames"]:
        """The bias by distance, of the first layer: all layers share it."""
        place = torch.arange(frames, device=self.rel_attn_embed.weight.device)
        distance = place[None, :] - place[:, None]
        half = self.buckets // 2
        exact = half // 2
        far = torch.log(distance.abs().clamp(min=1) / exact) / math.log(self.furthest / exact)
        coarse = (exact + far * (half - exact)).long().clamp(max=half - 1)
        bucket = torch.where(distance.abs() < exact, distance.abs(), coarse)
        values: Tensor = self.rel_attn_embed(bucket + (distance > 0) * half)
        return values.permute(2, 0, 1)

    def gated(
        self, x: Float[Tensor, "batch frames width"], bias: Float[Tensor, "heads frames frames"]
    ) -> Float[Tensor, "batch heads frames frames"]:
        """The bias as each query weighs it."""
        parts = self.gru_rel_pos_linear(self._split(x)).unflatten(3, (2, 4)).sum(dim=-1)
        update, reset = parts.sigmoid().chunk(2, dim=-1)
        gate = update * (reset * self.gru_rel_pos_const - 1.0) + 2.0
        weighed: Tensor = gate * bias
        return weighed


class FeedForward(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(
        self, x: Float[Tensor, "batch frames width"]
    ) -> Float[Tensor, "batch frames width"]:
        """The update."""
        out: Tensor = self.output_dense(nn.functional.gelu(self.intermediate_dense(x)))
        return out


class LanguageAdapter(nn.Module):
    """The bottleneck by which MMS's layers speak one language."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, inner)
        self.linear_2 = nn.Linear(inner, width)

    def forward(
        self, x: Float[Tensor, "batch frames width"]
    ) -> Float[Tensor, "batch frames width"]:
        """The update."""
        out: Tensor = self.linear_2(nn.functional.relu(self.linear_1(self.norm(x))))
        return out


class Wav2Vec2Layer(nn.Module):
    """A Transformer layer, with norms before (stable) or after its parts."""

    def __init__(self, config: Wav2Vec2Config, number: int):
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.stable = config.do_stable_layer_norm
        self.attention = (
            RelativeAttention(config, owns_buckets=number == 0)
            if config.relative_positions
            else SelfAttention(width, config.num_attention_heads)
        )
        self.layer_norm = nn.LayerNorm(width, eps=eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(width, eps=eps)
        inner = config.adapter_attn_dim
        self.adapter_layer = None if inner is None else LanguageAdapter(width, inner)

    def forward(
        self,
        x: Float[Tensor, "batch frames width"],
        mask: Bool[Tensor, "batch frames"],
        positions: Float[Tensor, "heads frames frames"] | None,
    ) -> Float[Tensor, "batch frames width"]:
        """One layer."""
        if self.stable:
            x = x + self._attend(self.layer_norm(x), mask, positions)
            x = x + self.feed_forward(self.final_layer_norm(x))
        else:
            x = self.layer_norm(x + self._attend(x, mask, positions))
            x = self.final_layer_norm(x + self.feed_forward(x))
        return x if self.adapter_layer is None else x + self.adapter_layer(x)

    def _attend(self, x: Tensor, mask: Tensor, positions: Tensor | None) -> Tensor:
        bias = None
        if positions is not None and isinstance(self.attention, RelativeAttention):
            bias = self.attention.gated(x, positions)
        attended: Tensor = self.attention(x, mask, bias)
        return attended


class Wav2Vec2Stack(nn.Module):
    """Positions and layers."""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.stable = config.do_stable_layer_norm
        self.pos_conv_embed = ConvPositions(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            Wav2Vec2Layer(config, number) for number in range(config.num_hidden_layers)
        )

    def forward(
        self, x: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"]
    ) -> tuple[Float[Tensor, "batch frames width"], Float[Tensor, "batch frames width"]]:
        """Vectors after the last layer and from half-way up."""
        return self.above(self.below(x, mask, 0), mask, 0)

    def below(
        self,
        x: Float[Tensor, "batch frames width"],
        mask: Bool[Tensor, "batch frames"],
        layers: int,
    ) -> Float[Tensor, "batch frames width"]:
        """What enters layer ``layers``."""
        x = x.masked_fill(~mask[:, :, None], 0.0)
        x = x + self.pos_conv_embed(x)
        if not self.stable:
            x = self.layer_norm(x)
        positions = self._positions(x.shape[1])
        for layer in self.layers[:layers]:
            x = layer(x, mask, positions)
        return x

    def above(
        self,
        x: Float[Tensor, "batch frames width"],
        mask: Bool[Tensor, "batch frames"],
        layers: int,
    ) -> tuple[Float[Tensor, "batch frames width"], Float[Tensor, "batch frames width"]]:
        """The layers from ``layers`` on, and the norm that ends them: as :meth:`forward`."""
        positions = self._positions(x.shape[1])
        middle = x
        for number in range(layers, len(self.layers)):
            if number == len(self.layers) // 2:
                middle = x
            x = self.layers[number](x, mask, positions)
        return (self.layer_norm(x) if self.stable else x), middle

    def _positions(self, frames: int) -> Tensor | None:
        """WavLM's bias by distance, which all layers have of the first."""
        first = self.layers[0].attention if len(self.layers) else None
        return first.position_bias(frames) if isinstance(first, RelativeAttention) else None


class Wav2Vec2Encoder(nn.Module):
    """Convolutions over the waveform, then Transformer layers: a frame every 20 ms.

    The waveform is padded by half a receptive field on the left, so that encoder frame ``j`` is centred
    on sample ``320 j``, as frames are everywhere in this toolkit; without it they lie 12.5 ms later.
    """

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.config = config
        self.feature_extractor = FeatureEncoder(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Wav2Vec2Stack(config)

    @property
    def sample_rate(self) -> int:
        """Of the waveforms it reads, Hz."""
        return 100 * SAMPLES_A_FRAME

    @property
    def width(self) -> int:
        """Of a frame."""
        return self.config.width

    @property
    def subsampling(self) -> int:
        """10 ms frames per encoder frame."""
        return self.config.subsampling

    @property
    def norm(self) -> nn.Module:
        """The norm after the last layer; in encoders whose layers end in one, nothing."""
        return self.encoder.layer_norm if self.encoder.stable else nn.Identity()

    @property
    def field(self) -> int:
        """Samples that one frame sees."""
        samples, step = 1, 1
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            samples += (kernel - 1) * step
            step *= stride
        return samples

    def forward(
        self,
        inputs: Float[Tensor, "batch samples 1"],
        lengths: Int[Tensor, " batch"],
        mask: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Encoded:
        """Frames of 16 kHz waveforms: ``ceil(samples / 320)`` of each.

        ``mask`` changes what the convolutions made of them, in training: it takes (batch, frames, width)
        and the lengths in frames.
        """
        return self.encode(*self._padded(inputs, lengths), mask)

    def _padded(
        self, inputs: Float[Tensor, "batch samples 1"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch padded"], Int[Tensor, " batch"]]:
        """Waveforms as :meth:`encode` takes them, and samples of each that give its frames."""
        waveform = inputs[:, :, 0]
        if self.config.do_normalize:
            waveform = unit_variance(waveform, lengths)
        hop = math.prod(self.config.conv_stride)
        left = self.field // 2
        right = self.field - left + hop
        padded = nn.functional.pad(waveform, (left, right))
        frames = (lengths + hop - 1) // hop
        # as many samples as give that many frames
        samples = self.field + (frames - 1).clamp(min=0) * hop
        return padded.to(self.feature_extractor.dtype), samples

    @property
    def depth(self) -> int:
        """Layers."""
        return len(self.encoder.layers)

    def parts_below(self, layers: int) -> list[nn.Module]:
        """All that decides what enters layer ``layers``."""
        stack = self.encoder
        norms = [] if stack.stable else [stack.layer_norm]
        parts = [self.feature_extractor, self.feature_projection, stack.pos_conv_embed, *norms]
        return [*parts, *stack.layers[:layers]]

    def below(
        self,
        inputs: Float[Tensor, "batch samples 1"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> tuple[Float[Tensor, "batch enc_frames width"], Int[Tensor, " batch"]]:
        """What enters layer ``layers``, and how many frames of each are valid."""
        x, frames = self.feature_extractor(*self._padded(inputs, lengths))
        x = self.feature_projection(x)
        return self.encoder.below(x, length_mask(frames, x.shape[1]), layers), frames

    def above(
        self,
        frames: Float[Tensor, "batch enc_frames width"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> Encoded:
        """The layers from ``layers`` on."""
        out, middle = self.encoder.above(frames, length_mask(lengths, frames.shape[1]), layers)
        return Encoded(out, lengths, middle)

    def encode(
        self,
        waveform: Float[Tensor, "batch samples"],
        lengths: Int[Tensor, " batch"],
        mask: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Encoded:
        """As the encoder was trained: without padding on the left, frames that fit only."""
        x, frames = self.feature_extractor(waveform, lengths)
        x = self.feature_projection(x)
        if mask is not None:
            x = mask(x, frames)
        out, middle = self.encoder(x, length_mask(frames, x.shape[1]))
        return Encoded(out, frames, middle)

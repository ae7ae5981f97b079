"""Whisper's encoder, for utterances of any length.

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", section 2.2.
Weights have the names of Hugging Face's ``WhisperEncoder``.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.models.encoder import Encoded
from speechmm.models.front_end import length_mask
from speechmm.models.pretrained.attention import SelfAttention
from speechmm.models.pretrained.configs import WhisperConfig

DYNAMIC_RANGE = 8.0
"""Powers of ten below its loudest point at which an utterance's log-mel is cut off."""

SCALE = 4.0
"""Powers of ten to one of what it reads."""
FRAMES_A_SECOND = 100
"""Of features."""


class WhisperLayer(nn.Module):
    """Attention and feed-forward, each after a layer norm (pre-LN)."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        width = config.d_model
        self.self_attn = SelfAttention(width, config.encoder_attention_heads, key_bias=False)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "batch frames width"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames width"]:
        """One layer."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        inner = nn.functional.gelu(self.fc1(self.final_layer_norm(x)))
        updated: Tensor = x + self.fc2(inner)
        return updated


class WhisperEncoder(nn.Module):
    """Two convolutions, the second of stride 2, and Transformer layers: a frame every 20 ms.

    Whisper was trained on utterances padded to 30 s; here they are as long as they are, which costs
    what their length costs, and ``trailing_silence`` more. Encoder frame ``j`` is centred on feature
    frame ``2 j``.
    """

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.config = config
        width = config.d_model
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, width)
        self.embed_positions.requires_grad_(False)
        self.embed_positions.weight.data.copy_(sinusoids(config.max_source_positions, width))
        self.layers = nn.ModuleList(WhisperLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(width)

    @property
    def width(self) -> int:
        """Of a frame."""
        return self.config.width

    @property
    def subsampling(self) -> int:
        """Feature frames per encoder frame."""
        return self.config.subsampling

    @property
    def norm(self) -> nn.Module:
        """The norm after the last layer."""
        return self.layer_norm

    def forward(
        self, inputs: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Encoded:
        """Frames of features as :func:`whisper_scale` gives them."""
        return self.above(*self.below(inputs, lengths, 0), 0)

    @property
    def depth(self) -> int:
        """Layers."""
        return len(self.layers)

    def parts_below(self, layers: int) -> list[nn.Module]:
        """All that decides what enters layer ``layers``."""
        return [self.conv1, self.conv2, self.embed_positions, *self.layers[:layers]]

    def below(
        self,
        inputs: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> tuple[Float[Tensor, "batch enc_frames width"], Int[Tensor, " batch"]]:
        """What enters layer ``layers``, and how many frames of each are valid, silence included."""
        inputs, lengths = self._with_silence(inputs, lengths)
        inputs = inputs.to(self.conv1.weight.dtype)
        # zeros at padding before each convolution: as if every utterance were alone
        keep = length_mask(lengths, inputs.shape[1])[:, None, :]
        x = nn.functional.gelu(self.conv1(inputs.transpose(1, 2).masked_fill(~keep, 0.0)))
        x = nn.functional.gelu(self.conv2(x.masked_fill(~keep, 0.0))).transpose(1, 2)
        lengths = (lengths + 1) // 2
        mask = length_mask(lengths, x.shape[1])
        x = x + self._positions(x.shape[1])
        for layer in self.layers[:layers]:
            x = layer(x, mask)
        return x, lengths

    def above(
        self,
        frames: Float[Tensor, "batch enc_frames width"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> Encoded:
        """The layers from ``layers`` on, and the norm."""
        mask = length_mask(lengths, frames.shape[1])
        x = middle = frames
        for number in range(layers, len(self.layers)):
            if number == len(self.layers) // 2:
                middle = x
            x = self.layers[number](x, mask)
        return Encoded(self.layer_norm(x), lengths, middle)

    def scaled(
        self, features: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames n_mels"]:
        """Natural-log mel power as Whisper reads it; see :func:`whisper_scale`."""
        return whisper_scale(features, lengths)

    @property
    def reads_silence(self) -> bool:
        """Whether its frames go on after an utterance."""
        return self.config.trailing_silence > 0

    def _with_silence(
        self, inputs: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch longer n_mels"], Int[Tensor, " batch"]]:
        """Utterances and the silence after them, no further than Whisper was trained to hear."""
        if not self.reads_silence:
            return inputs, lengths
        frames, longest = inputs.shape[1], 2 * self.config.max_source_positions
        silence = round(self.config.trailing_silence * FRAMES_A_SECOND)
        longer = lengths + (longest - lengths).clamp(min=0, max=silence)
        keep = length_mask(lengths, frames)[:, :, None]
        loudest = inputs.masked_fill(~keep, float("-inf")).amax(dim=(1, 2), keepdim=True)
        room = min(silence, max(longest - frames, 0))
        padded = nn.functional.pad(inputs, (0, 0, 0, room))
        sound = length_mask(lengths, padded.shape[1])[:, :, None]
        # the scale's lowest value, which digital silence has
        return torch.where(sound, padded, loudest - DYNAMIC_RANGE / SCALE), longer

    def _positions(self, frames: int) -> Float[Tensor, "frames width"]:
        """Those trained with, and beyond 30 s what their formula gives."""
        known = self.embed_positions.weight
        if frames <= len(known):
            return known[:frames]
        further = sinusoids(frames, self.width).to(known)[len(known) :]
        return torch.cat([known, further])


def sinusoids(positions: int, width: int) -> Float[Tensor, "positions width"]:
    """Sines, then cosines, of wavelengths from 2 pi to 20,000 pi.

    Source: Vaswani et al. 2017, section 3.5, in Whisper's order of channels.
    """
    half = width // 2
    rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
    angles = torch.arange(positions)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def whisper_scale(
    features: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch frames n_mels"]:
    """Natural-log mel power to what Whisper reads; zero at padding.

    Decimal logarithms, those more than :data:`DYNAMIC_RANGE` below the utterance's largest raised to that
    limit, shifted and scaled to about -1 to 1.
    """
    keep = length_mask(lengths, features.shape[1])[:, :, None]
    decimal = features / math.log(10)
    top = decimal.masked_fill(~keep, float("-inf")).amax(dim=(1, 2), keepdim=True)
    scaled = (torch.maximum(decimal, top - DYNAMIC_RANGE) + 4.0) / SCALE
    return scaled.masked_fill(~keep, 0.0)

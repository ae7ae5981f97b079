"""Puts layers of our own on a pretrained encoder, which may stay frozen below them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.models.encoder import Encoded
from speechmm.models.front_end import length_mask
from speechmm.models.pretrained.wav2vec2 import Wav2Vec2Encoder
from speechmm.models.pretrained.whisper import WhisperEncoder
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.transformer import TransformerEncoder


class StackedEncoder(nn.Module):
    """Transformer or Conformer layers whose input is another encoder's frames in place of log-mel.

    A convolution brings them to the width and rate of the layers: frame ``j`` is centred on the frame
    ``j * stride`` below.
    """

    def __init__(self, lower: WhisperEncoder | Wav2Vec2Encoder, network: SpeechTextConfig):
        """Random weights above.

        Args:
            lower: With its weights.
            network: Dimensions of the layers; ``subsampling`` is a multiple of the lower encoder's.

        Raises:
            ValueError: It is not.
        """
        super().__init__()
        stride, rest = divmod(network.subsampling, lower.subsampling)
        if rest or not stride:
            raise ValueError(
                f"subsampling is {network.subsampling}, no multiple of the lower encoder's "
                f"{lower.subsampling}"
            )
        self.lower = lower
        self.stride = stride
        self.bridge = nn.Conv1d(
            lower.width, network.d_model, 2 * stride - 1, stride=stride, padding=stride - 1
        )
        self.stack = TransformerEncoder(
            d_model=network.d_model,
            heads=network.heads,
            ff_dim=network.ff_dim,
            layers=network.encoder_layers,
            conv_kernel=network.conv_kernel,
            dropout=network.dropout,
            middle_stride=network.middle_stride,
            attention_window=network.attention_window,
        )

    @property
    def width(self) -> int:
        """Of a frame."""
        return self.stack.d_model

    @property
    def subsampling(self) -> int:
        """10 ms frames per encoder frame."""
        return self.lower.subsampling * self.stride

    @property
    def norm(self) -> nn.Module:
        """The norm after the last layer."""
        return self.stack.norm

    @property
    def depth(self) -> int:
        """Layers of the lower encoder, between which it can be cut."""
        return self.lower.depth

    def parts_below(self, layers: int) -> list[nn.Module]:
        """All that decides what enters the lower encoder's layer ``layers``."""
        return self.lower.parts_below(layers)

    def below(
        self,
        inputs: Float[Tensor, "batch positions channels"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> tuple[Float[Tensor, "batch enc_frames width"], Int[Tensor, " batch"]]:
        """What enters the lower encoder's layer ``layers``."""
        return self.lower.below(inputs, lengths, layers)

    def above(
        self,
        frames: Float[Tensor, "batch enc_frames width"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> Encoded:
        """The lower encoder from ``layers`` on, and the layers on it; ``middle`` is theirs."""
        return self._stacked(self.lower.above(frames, lengths, layers))

    def _stacked(self, below: Encoded) -> Encoded:
        keep = length_mask(below.lengths, below.frames.shape[1])[:, :, None]
        x = self.bridge(below.frames.masked_fill(~keep, 0.0).transpose(1, 2)).transpose(1, 2)
        lengths = (below.lengths + self.stride - 1) // self.stride
        frames, middle = self.stack(x, length_mask(lengths, x.shape[1]))
        return Encoded(frames, lengths, middle)


class StackedOnFeatures(StackedEncoder):
    """On an encoder of log-mel features."""

    def forward(
        self, inputs: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Encoded:
        """Frames of features in the lower encoder's scale."""
        return self._stacked(self.lower(inputs, lengths))

    @property
    def reads_silence(self) -> bool:
        """Whether its frames go on after an utterance."""
        lower: Any = self.lower
        return bool(lower.reads_silence)

    def scaled(
        self, features: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames n_mels"]:
        """Natural-log mel power as the lower encoder reads it."""
        lower: Any = self.lower
        scaled: Tensor = lower.scaled(features, lengths)
        return scaled


class StackedOnWaveforms(StackedEncoder):
    """On an encoder of waveforms."""

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, Hz."""
        lower: Any = self.lower
        return int(lower.sample_rate)

    def forward(
        self,
        inputs: Float[Tensor, "batch samples 1"],
        lengths: Int[Tensor, " batch"],
        mask: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Encoded:
        """Frames; ``mask`` changes what the lower encoder's convolutions made, in training."""
        return self._stacked(self.lower(inputs, lengths, mask))


def stack_on(lower: nn.Module, network: SpeechTextConfig) -> StackedEncoder:
    """Layers on an encoder.

    Raises:
        ValueError: The rates do not fit, or there can be no layers on such an encoder.
    """
    if isinstance(lower, WhisperEncoder):
        return StackedOnFeatures(lower, network)
    if isinstance(lower, Wav2Vec2Encoder):
        return StackedOnWaveforms(lower, network)
    raise ValueError(f"no layers can be put on a {type(lower).__name__}")

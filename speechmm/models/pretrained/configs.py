"""Dimensions of pretrained encoders: by the names of their config.json, and by those of this toolkit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from speechmm.audio.log_mel import LogMelConfig

SAMPLES_A_FRAME = 160
"""At 16 kHz: the 10 ms that :attr:`Wav2Vec2Encoder.subsampling` counts in."""
LONGEST_SILENCE = 30.0
"""Seconds: the longest utterance that Whisper was trained on."""
MOST_LAYERS, LARGEST = 100, 16_384
"""Beyond these a config is damaged, not large: XLS-R 2B has 48 layers of 1,920."""


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    """Dimensions, as ``config.json`` names them."""

    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    num_mel_bins: int = 80
    max_source_positions: int = 1500
    activation_function: str = "gelu"
    trailing_silence: float = 0.0
    """Seconds of silence that the encoder reads after every utterance, for the decoder to find its end:
    Whisper was trained on utterances padded to 30 s. In no ``config.json``."""

    @property
    def width(self) -> int:
        """Of a frame."""
        return self.d_model

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return self.encoder_layers

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return self.encoder_attention_heads

    @property
    def ff_dim(self) -> int:
        """Inner width of the feed-forward layers."""
        return self.encoder_ffn_dim

    @property
    def subsampling(self) -> int:
        """10 ms frames per encoder frame."""
        return 2

    @property
    def features(self) -> LogMelConfig:
        """Of which it is made: a frame every 10 ms at 16 kHz."""
        return LogMelConfig(n_mels=self.num_mel_bins, n_fft=400)

    def check(self) -> None:
        """Refuses what would be built wrongly, or would take all memory.

        Raises:
            ValueError: A size is none, or out of bounds, or something is not known.
        """
        inner = (self.ff_dim, self.num_mel_bins, self.max_source_positions)
        _check_sizes(self.layers, self.width, self.heads, inner)
        _check_activations(self.activation_function)
        if not 0 <= self.trailing_silence <= LONGEST_SILENCE:
            raise ValueError(
                f"trailing_silence is {self.trailing_silence} s, not 0 to {LONGEST_SILENCE}"
            )


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config:
    """Dimensions, as ``config.json`` names them; the defaults are those of wav2vec 2.0 base."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    feat_extract_activation: str = "gelu"
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_proj_layer_norm: bool = True
    conv_dim: Sequence[int] = (512,) * 7
    conv_kernel: Sequence[int] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: Sequence[int] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    layer_norm_eps: float = 1e-5
    adapter_attn_dim: int | None = None
    """Width of MMS's language adapter in every layer; None for none."""
    relative_positions: bool = False
    """WavLM's gated relative position bias."""
    num_buckets: int = 320
    max_bucket_distance: int = 800
    do_normalize: bool = True
    """Of ``preprocessor_config.json``: zero mean and unit variance for every waveform."""

    @property
    def width(self) -> int:
        """Of a frame."""
        return self.hidden_size

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return self.num_hidden_layers

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return self.num_attention_heads

    @property
    def ff_dim(self) -> int:
        """Inner width of the feed-forward layers."""
        return self.intermediate_size

    @property
    def subsampling(self) -> int:
        """10 ms frames per encoder frame."""
        return math.prod(self.conv_stride) // SAMPLES_A_FRAME

    @property
    def features(self) -> LogMelConfig:
        """The log-mel features beside it: a frame every 10 ms at 16 kHz."""
        return LogMelConfig()

    def check(self) -> None:
        """Refuses what would be built wrongly, or would take all memory.

        Raises:
            ValueError: A size is none, or out of bounds, or something is not known.
        """
        counts = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        if len(counts) != 1 or math.prod(self.conv_stride) % SAMPLES_A_FRAME:
            raise ValueError(f"its convolutions have strides {list(self.conv_stride)}")
        inner = (self.ff_dim, *self.conv_dim, *self.conv_kernel)
        _check_sizes(self.layers, self.width, self.heads, inner)
        _check_activations(self.hidden_act, self.feat_extract_activation)


def _check_sizes(layers: int, width: int, heads: int, inner: Sequence[int]) -> None:
    """Looks at layers, the width of a frame, attention heads, and all other sizes.

    Raises:
        ValueError: One is none, or out of bounds, or the heads do not divide the width.
    """
    for value in (layers, width, heads, *inner):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"a size is {value!r}")
    if layers > MOST_LAYERS or max(width, *inner) > LARGEST or width % heads:
        raise ValueError(f"{layers} layers of width {width} with {heads} heads")


def _check_activations(*names: str) -> None:
    """Looks at activation functions.

    Raises:
        ValueError: One is another than gelu, which alone is built.
    """
    if set(names) != {"gelu"}:
        raise ValueError(f"its activation is {list(names)}, not gelu")

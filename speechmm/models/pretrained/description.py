"""Describes a pretrained encoder in a bundle's settings, and builds it from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from torch import nn

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.models.encoder import ConvTransformerEncoder, Encoder
from speechmm.models.pretrained.wav2vec2 import Wav2Vec2Config, Wav2Vec2Encoder
from speechmm.models.pretrained.whisper import WhisperConfig, WhisperEncoder

CONFIGS: dict[str, type[WhisperConfig] | type[Wav2Vec2Config]] = {
    "whisper": WhisperConfig,
    "wav2vec2": Wav2Vec2Config,
}
"""By kind; wav2vec 2.0, XLS-R, MMS, HuBERT and WavLM are one kind, told apart by their config."""

LARGEST = {"layers": 100, "width": 16_384}
"""Beyond these a config is damaged, not large: XLS-R 2B has 48 layers of 1,920."""


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What a bundle says of an encoder that is not of its model's own dimensions."""

    kind: str
    """One of ``CONFIGS``."""
    config: WhisperConfig | Wav2Vec2Config

    @property
    def width(self) -> int:
        """Of a frame."""
        config = self.config
        return config.d_model if isinstance(config, WhisperConfig) else config.hidden_size

    @property
    def layers(self) -> int:
        """Transformer layers."""
        config = self.config
        return (
            config.encoder_layers if isinstance(config, WhisperConfig) else config.num_hidden_layers
        )

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        config = self.config
        if isinstance(config, WhisperConfig):
            return config.encoder_attention_heads
        return config.num_attention_heads

    @property
    def ff_dim(self) -> int:
        """Inner width of the feed-forward layers."""
        config = self.config
        return (
            config.encoder_ffn_dim
            if isinstance(config, WhisperConfig)
            else config.intermediate_size
        )

    @property
    def subsampling(self) -> int:
        """10 ms frames per encoder frame."""
        config = self.config
        return 2 if isinstance(config, WhisperConfig) else math.prod(config.conv_stride) // 160

    @property
    def features(self) -> LogMelConfig:
        """The log-mel features beside it, or of which it is made: a frame every 10 ms at 16 kHz."""
        if isinstance(self.config, WhisperConfig):
            return LogMelConfig(n_mels=self.config.num_mel_bins, n_fft=400)
        return LogMelConfig()


def describe(encoder: nn.Module | Encoder) -> EncoderInfo | None:
    """The description of an encoder; None for one that the model's own dimensions describe.

    Raises:
        ConfigError: No settings describe it.
    """
    if isinstance(encoder, ConvTransformerEncoder):
        return None
    if isinstance(encoder, WhisperEncoder):
        return EncoderInfo(kind="whisper", config=encoder.config)
    if isinstance(encoder, Wav2Vec2Encoder):
        return EncoderInfo(kind="wav2vec2", config=encoder.config)
    raise ConfigError(
        f"the model stands on a {type(encoder).__name__}, which no setting of a bundle describes; "
        "expected the encoder of its config, or a pretrained one. Save its state_dict yourself."
    )


def build(info: EncoderInfo) -> Encoder:
    """The encoder that is described, with random weights.

    Raises:
        ValueError: It would be built wrongly, or take all memory.
    """
    check_config(info.config)
    if isinstance(info.config, WhisperConfig):
        encoder: nn.Module = WhisperEncoder(info.config)
    else:
        encoder = Wav2Vec2Encoder(info.config)
    return cast(Encoder, encoder)


def check_config(config: WhisperConfig | Wav2Vec2Config) -> None:
    """Refuses what would be built wrongly, or would take all memory.

    Raises:
        ValueError: A size is none, or out of bounds, or something is not known.
    """
    if isinstance(config, WhisperConfig):
        activations = [config.activation_function]
        layers, width, heads = (
            config.encoder_layers,
            config.d_model,
            config.encoder_attention_heads,
        )
        inner = [config.encoder_ffn_dim, config.num_mel_bins, config.max_source_positions]
    else:
        activations = [config.hidden_act, config.feat_extract_activation]
        layers, width, heads = (
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
        )
        inner = [config.intermediate_size, *config.conv_dim, *config.conv_kernel]
        sizes = {len(config.conv_dim), len(config.conv_kernel), len(config.conv_stride)}
        if len(sizes) != 1 or math.prod(config.conv_stride) % 160:
            raise ValueError(f"its convolutions have strides {list(config.conv_stride)}")
    for value in (layers, width, heads, *inner):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"a size is {value!r}")
    if layers > LARGEST["layers"] or max(width, *inner) > LARGEST["width"] or width % heads:
        raise ValueError(f"{layers} layers of width {width} with {heads} heads")
    if set(activations) != {"gelu"}:
        raise ValueError(f"its activation is {activations}, not gelu")

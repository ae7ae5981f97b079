"""Describes a pretrained encoder in a bundle's settings, and builds it from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from speechmm.errors import ConfigError
from speechmm.models.encoder import ConvTransformerEncoder, Encoder
from speechmm.models.pretrained.configs import Wav2Vec2Config, WhisperConfig
from speechmm.models.pretrained.wav2vec2 import Wav2Vec2Encoder
from speechmm.models.pretrained.whisper import WhisperEncoder

CONFIGS: dict[str, type[WhisperConfig] | type[Wav2Vec2Config]] = {
    "whisper": WhisperConfig,
    "wav2vec2": Wav2Vec2Config,
}
"""By kind; wav2vec 2.0, XLS-R, MMS, HuBERT and WavLM are one kind, told apart by their config."""


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """What a bundle says of an encoder that is not of its model's own dimensions."""

    kind: str
    """One of ``CONFIGS``."""
    config: WhisperConfig | Wav2Vec2Config


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
    info.config.check()
    if isinstance(info.config, WhisperConfig):
        encoder: nn.Module = WhisperEncoder(info.config)
    else:
        encoder = Wav2Vec2Encoder(info.config)
    return cast(Encoder, encoder)

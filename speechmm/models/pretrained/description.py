"""Describes a pretrained encoder in a bundle's settings, and builds it from them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from speechmm.errors import ConfigError
from speechmm.models.encoder import ConvTransformerEncoder, Encoder
from speechmm.models.pretrained.configs import Wav2Vec2Config, WhisperConfig
from speechmm.models.pretrained.stacked import StackedEncoder, stack_on
from speechmm.models.pretrained.wav2vec2 import Wav2Vec2Encoder
from speechmm.models.pretrained.whisper import WhisperEncoder
from speechmm.models.speech_text_config import SpeechTextConfig

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
    own_layers: bool = False
    """Whether layers of the model's own dimensions stand on it."""


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
    if isinstance(encoder, StackedEncoder):
        below = describe(encoder.lower)
        assert below is not None
        return dataclasses.replace(below, own_layers=True)
    raise ConfigError(
        f"the model stands on a {type(encoder).__name__}, which no setting of a bundle describes; "
        "expected the encoder of its config, or a pretrained one. Save its state_dict yourself."
    )


def plain_description(encoder: nn.Module | Encoder) -> dict[str, Any] | None:
    """The description as JSON has it."""
    info = describe(encoder)
    if info is None:
        return None
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(info)))
    return plain


def build(info: EncoderInfo, network: SpeechTextConfig | None = None) -> Encoder:
    """The encoder that is described, with random weights.

    Args:
        info: Of the encoder.
        network: Dimensions of the model, for layers of its own.

    Raises:
        ValueError: It would be built wrongly, or take all memory.
    """
    info.config.check()
    if isinstance(info.config, WhisperConfig):
        encoder: nn.Module = WhisperEncoder(info.config)
    else:
        encoder = Wav2Vec2Encoder(info.config)
    if info.own_layers:
        if network is None:
            raise ValueError("the dimensions of the layers on the encoder are missing")
        encoder = stack_on(encoder, network)
    return cast(Encoder, encoder)

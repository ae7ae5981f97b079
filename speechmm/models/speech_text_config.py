"""Dimensions of the joint speech-text model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from speechmm.errors import ConfigError
from speechmm.models.transformer import ACTIVATIONS, MOST_LAYERS, check_dimensions, check_sizes

MOST_PROMPTS = 16
"""Vectors before a text; Whisper has four."""


@dataclass(frozen=True, kw_only=True)
class SpeechTextConfig:
    """Dimensions of a SpeechTextModel. The vocabulary size comes from the tokenizer file."""

    d_model: int = 144
    """Width of encoder and decoder vectors."""
    heads: int = 4
    """Attention heads; must divide d_model into even parts."""
    ff_dim: int = 576
    """Inner width of the feed-forward layers."""
    encoder_layers: int = 6
    """Layers of the shared encoder."""
    middle_stride: int = 1
    """Encoder frames that the layers between the first and the last see as one; 1 for none."""
    decoder_layers: int = 2
    """Layers of the shared decoder."""
    decoder_positions: int = 0
    """Places of tokens that the decoder has a learned vector for, as Whisper's has; 0 for rotary ones."""
    decoder_activation: Literal["silu", "gelu"] = "silu"
    """In the decoder's feed-forward layers."""
    decoder_prompt: int = 1
    """Vectors by which the decoder is told what is asked; Whisper's has up to four, the second of them
    the language."""
    subsampling: int = 4
    """Feature frames (10 ms) per encoder frame: 2, 4 or 8."""
    attention_window: int = 0
    """Encoder frames before and after its own that attention sees in a layer; 0 for all. Small
    corpora whose texts follow a pattern are learned from the sound sooner when it is short."""
    front_channels: int = 256
    """Channels between the front end's convolutions."""
    conv_kernel: int = 15
    """Kernel of the encoder's depthwise convolution in encoder frames; 0 leaves it out."""
    dropout: float = 0.1
    """Share of zeroed residual updates while training."""
    utterance_cmn: bool = False
    """Subtract each mel band's mean over the utterance (cepstral mean normalisation per utterance):
    level and channel leave no trace."""
    cmn_quiet_share: float = 0.0
    """Largest share that quiet frames, 35 dB below the loud ones, have in that mean: 0 for
    the mean of speech alone, which silence does not move; 1 for the mean of all frames."""
    align_dim: int = 64
    """Width of the alignment head's vectors."""
    align_prior: float = 0.5
    """How much of the label prior is divided out of alignment scores, 0 to 1."""

    def __post_init__(self) -> None:
        check_sizes(self, "d_model", "heads", "ff_dim", "front_channels", "align_dim")
        check_sizes(self, "encoder_layers", "decoder_layers", least=0, most=MOST_LAYERS)
        check_sizes(self, "conv_kernel", "attention_window", "decoder_positions", least=0)
        check_sizes(self, "decoder_prompt", most=MOST_PROMPTS)
        check_dimensions(self.d_model, self.heads, self.dropout)
        if self.decoder_activation not in ACTIVATIONS:
            raise ConfigError(
                f"model.network: decoder_activation is {self.decoder_activation!r}; expected one of "
                f"{', '.join(ACTIVATIONS)}. Choose one of these."
            )
        if self.subsampling not in (2, 4, 8):
            raise ConfigError(
                f"model.network: subsampling is {self.subsampling}; expected 2, 4 or 8. "
                "Choose one of these."
            )
        if self.conv_kernel and self.conv_kernel % 2 == 0:
            raise ConfigError(
                f"model.network: conv_kernel is {self.conv_kernel}; expected 0 or an odd number. "
                "Choose an odd kernel."
            )
        if not 1 <= self.middle_stride <= 8 or (self.middle_stride > 1 and self.encoder_layers < 3):
            raise ConfigError(
                f"model.network: middle_stride is {self.middle_stride} with {self.encoder_layers} encoder "
                "layers; expected 1 to 8, and 3 layers or more above 1. Correct the config."
            )
        if not 0.0 <= self.cmn_quiet_share <= 1.0:
            raise ConfigError(
                f"model.network: cmn_quiet_share is {self.cmn_quiet_share}; expected 0 to 1. Correct it."
            )

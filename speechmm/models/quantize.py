"""Quantizes the linear layers of a model to int8 for CPUs: a quarter of the memory to read."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from speechmm.errors import ConfigError
from speechmm.models.pretrained.wav2vec2 import Wav2Vec2Layer
from speechmm.models.pretrained.whisper import WhisperLayer
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.transformer import TransformerEncoder
from speechmm.models.transformer_decoder import TransformerDecoder
from speechmm.options import PRECISIONS

STACKS = (TransformerEncoder, TransformerDecoder, WhisperLayer, Wav2Vec2Layer)


def quantize(model: SpeechTextModel, precision: str) -> SpeechTextModel:
    """The same model with 8-bit weights in the linear layers of encoder and decoder.

    Activations are quantized as they come, with one scale a tensor. The front end, the heads and
    the alignment head keep their weights: they are small, and accuracy depends on them most.

    Args:
        model: On a CPU; it is changed.
        precision: One of :data:`speechmm.options.PRECISIONS`.

    Raises:
        ConfigError: Another precision, another device, or a PyTorch that cannot do this.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"quantize: found {precision!r}; expected {', '.join(PRECISIONS)}. Correct it."
        )
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise ConfigError(
            f"quantize: the model is on {device}; expected a CPU, for which int8 is made. "
            "Leave out the device, or int8."
        )
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        raise ConfigError(
            f"quantize: PyTorch {torch.__version__} has no dynamic quantization any more; expected "
            "an older one. Install what constraints.txt says, or leave out int8."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to be replaced by another package some day
        stacks = [part for part in model.modules() if isinstance(part, STACKS)]
        for stack in stacks:
            quantize_dynamic(  # type: ignore[no-untyped-call]
                stack, {nn.Linear}, dtype=torch.qint8, inplace=True
            )
    return model

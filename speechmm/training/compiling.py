"""Compiles the layers of a model, and pads batches to the few shapes that compiled code likes."""

from __future__ import annotations

import dataclasses
from typing import Literal

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechmm.data.batch import next_of_few
from speechmm.errors import ConfigError
from speechmm.models.alignment_head import AlignmentHead
from speechmm.models.pretrained.wav2vec2 import Wav2Vec2Layer
from speechmm.models.pretrained.whisper import WhisperLayer
from speechmm.models.transformer import DecoderLayer, EncoderLayer
from speechmm.training.augmentation import Augmented
from speechmm.training.sharding import shares_weights

Compile = Literal["auto", "off", "layers", "graphs"]
COMPILED = (EncoderLayer, DecoderLayer, AlignmentHead, WhisperLayer, Wav2Vec2Layer)
MULTIPLE = 8
"""Encoder frames, and tokens, are padded to multiples of this: the rows of a half-precision matrix then
begin where a GPU reads fastest."""
RECOMPILATIONS = 64
"""Most versions of one layer: with and without gradients, with and without masks, one row or more."""


def choose(how: Compile, device: torch.device) -> Compile:
    """What ``auto`` means on a device: compiled layers on a GPU that Triton is installed for."""
    if how != "auto":
        return how
    return "layers" if device.type == "cuda" and torch.utils._triton.has_triton() else "off"


def choose_for(trainer: L.Trainer, how: Compile) -> Compile:
    """What a trainer compiles.

    Raises:
        ConfigError: It is asked for what does not go together.
    """
    shared = shares_weights(trainer)
    if how == "auto" and shared:
        return "off"
    chosen = choose(how, trainer.strategy.root_device)
    if shared and chosen != "off":
        raise ConfigError(
            f"model.compile is {chosen} and trainer.strategy shares weights out; expected off, as layers "
            "are gathered before they compute. Set model.compile to off, or the strategy to ddp."
        )
    steps = trainer.accumulate_grad_batches
    if chosen == "graphs" and steps > 1:
        raise ConfigError(
            f"model.compile is graphs and trainer.accumulate_grad_batches {steps}; expected 1, as a "
            "recorded graph writes its gradients over the last ones. Set model.compile to layers."
        )
    return chosen


def compile_layers(model: nn.Module, how: Compile, backend: str = "inductor") -> None:
    """Compiles encoder and decoder layers and the alignment head in place, each for itself.

    Layers of one kind share their code. The second shape of a batch makes it anew for any number of
    rows, frames and tokens; from then on nothing is compiled.
    Names of weights stay as they are. ``backend`` is torch.compile's.
    """
    if how == "off":
        return
    mode = "reduce-overhead" if how == "graphs" else None
    for part in model.modules():
        if isinstance(part, COMPILED):
            part.compile(mode=mode, backend=backend, recompile_limit=RECOMPILATIONS)


def padded_size(size: int, multiple: int, how: Compile) -> int:
    """The size to pad to: a multiple, and with ``graphs`` one of eight sizes from 2^n to 2^(n+1)."""
    return next_of_few(size, multiple) if how == "graphs" else -(-size // multiple) * multiple


def pad_shapes(augmented: Augmented, how: Compile, subsampling: int) -> Augmented:
    """The batch with more padding, which changes no loss."""
    if how == "off":
        return augmented
    batch = augmented.batch
    frames = augmented.clean.shape[1]
    more = padded_size(frames, MULTIPLE * subsampling, how) - frames

    def wider(ids: Tensor) -> Tensor:
        return F.pad(ids, (0, padded_size(ids.shape[1], MULTIPLE, how) - ids.shape[1]))

    return dataclasses.replace(
        augmented,
        clean=F.pad(augmented.clean, (0, 0, 0, more)),
        masked=F.pad(augmented.masked, (0, 0, 0, more)),
        batch=dataclasses.replace(
            batch, tokens=wider(batch.tokens), align_tokens=wider(batch.align_tokens)
        ),
    )

"""Decides what is compiled or recorded, compiles layers, pads batches to the few shapes that both like."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
from speechmm.models.transformer import EncoderLayer
from speechmm.models.transformer_decoder import DecoderLayer
from speechmm.training.augmentation import Augmented
from speechmm.training.sharding import shares_weights

Compile = Literal["auto", "off", "layers", "graphs", "both"]
COMPILING_PAYS = 10_000
"""Optimiser steps from which on a training is worth the minute that compiling takes."""
COMPILED = (EncoderLayer, DecoderLayer, AlignmentHead, WhisperLayer, Wav2Vec2Layer)
MULTIPLE = 8
"""Encoder frames, and tokens, are padded to multiples of this: the rows of a half-precision matrix then
begin where a GPU reads fastest."""
FEW_TOKENS = 16
"""Tokens are padded to multiples of this where passes are recorded: they cost little, and shapes repeat."""
RECOMPILATIONS = 64
"""Most versions of one layer: with and without gradients, with and without masks, one row or more."""


def choose(device: torch.device, steps: Callable[[], float], *, recordable: bool = True) -> Compile:
    """What ``auto`` means.

    Args:
        device: Nothing is compiled or recorded but on a CUDA GPU.
        steps: Optimiser steps of the training, infinite where nobody knows.
        recordable: Whether passes can be recorded.
    """
    if device.type != "cuda":
        return "off"
    if torch.utils._triton.has_triton() and steps() >= COMPILING_PAYS:
        return "both" if recordable else "layers"
    return "graphs" if recordable else "off"


def choose_for(trainer: L.Trainer, how: Compile, steps: Callable[[], float]) -> Compile:
    """What a trainer compiles and records.

    Args:
        trainer: Whose strategy and accumulation allow it, or not.
        how: As asked for.
        steps: Optimiser steps of the training, infinite where nobody knows.

    Raises:
        ConfigError: It is asked for what does not go together.
    """
    shared = shares_weights(trainer)
    batches, processes = trainer.accumulate_grad_batches, trainer.world_size
    recordable = batches == 1 and processes == 1
    device = trainer.strategy.root_device
    if how == "auto":
        return "off" if shared else choose(device, steps, recordable=recordable)
    if shared and how != "off":
        raise ConfigError(
            f"model.compile is {how} and trainer.strategy shares weights out; expected off, as layers "
            "are gathered before they compute. Set model.compile to off, or the strategy to ddp."
        )
    if records(how) and device.type != "cuda":
        raise ConfigError(
            f"model.compile is {how} and the device {device.type}; expected a CUDA GPU, which passes are "
            "recorded on. Set model.compile to auto."
        )
    if records(how) and not recordable:
        raise ConfigError(
            f"model.compile is {how}, trainer.accumulate_grad_batches {batches}, and there are {processes} "
            "processes; expected 1 of each, as a recorded pass writes its gradients over the last ones "
            "and waits for no other process. Set model.compile to layers."
        )
    return how


def records(how: Compile) -> bool:
    """Whether passes are recorded as CUDA graphs."""
    return how in ("graphs", "both")


def compiles(how: Compile) -> bool:
    """Whether layers are compiled."""
    return how in ("layers", "both")


def compile_layers(model: nn.Module, how: Compile, backend: str = "inductor") -> None:
    """Compiles encoder and decoder layers and the alignment head in place, each for itself.

    Layers of one kind share their code. The second shape of a batch makes it anew for any number of
    rows, frames and tokens; from then on nothing is compiled.
    Names of weights stay as they are. ``backend`` is torch.compile's.
    """
    if not compiles(how):
        return
    settings = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, RECOMPILATIONS)
    for part in model.modules():
        if isinstance(part, COMPILED):
            part.compile(backend=backend)


def padded_size(size: int, multiple: int, how: Compile) -> int:
    """The size to pad to: a multiple, and of eight sizes from 2^n to 2^(n+1) where passes are recorded."""
    return next_of_few(size, multiple) if records(how) else -(-size // multiple) * multiple


def pad_shapes(augmented: Augmented, how: Compile, subsampling: int) -> Augmented:
    """The batch with more padding, which changes no loss."""
    if how == "off":
        return augmented
    batch = augmented.batch
    frames = augmented.clean.shape[1]
    more = padded_size(frames, MULTIPLE * subsampling, how) - frames

    multiple = FEW_TOKENS if records(how) else MULTIPLE

    def wider(ids: Tensor) -> Tensor:
        return F.pad(ids, (0, padded_size(ids.shape[1], multiple, how) - ids.shape[1]))

    aligned, guides = wider(batch.align_tokens), batch.guides
    if guides is not None:
        guides = F.pad(guides, (0, 0, 0, aligned.shape[1] - guides.shape[1]))

    return dataclasses.replace(
        augmented,
        clean=F.pad(augmented.clean, (0, 0, 0, more)),
        masked=F.pad(augmented.masked, (0, 0, 0, more)),
        batch=dataclasses.replace(
            batch, tokens=wider(batch.tokens), align_tokens=aligned, guides=guides
        ),
    )

"""Makes the optimiser and its learning-rate schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from speechmm.errors import ConfigError
from speechmm.training.soap import Soap

ADAMW_BETAS = (0.9, 0.98)
SOAP_BETAS = (0.95, 0.95)
"""As in Vyas et al. 2024."""
SOAP_SIDES = range(32, 2049)
"""Smaller sides of the matrices that SOAP turns: narrower ones have little to turn, and the bases
of wider ones would take longer than the rest of the step."""


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How weights move."""

    optimizer: Literal["adamw", "soap"] = "adamw"
    """``soap`` turns matrices into the eigenbasis of their gradients first: fewer steps for the
    same loss, each of which takes a little longer (``speechmm.training.soap``)."""
    learning_rate: float = 2e-3
    """Peak of the schedule."""
    warmup_steps: int = 200
    """Optimiser steps of linear rise from zero; afterwards a cosine falls to 1 % of the peak at the last
    of ``trainer.max_epochs`` or ``trainer.max_steps``, or when ``trainer.max_time`` is up: whichever
    is first."""
    weight_decay: float = 0.01
    """Decoupled decay of matrices; vectors (norms, biases) are left alone."""
    ema_decay: float = 0.998
    """Upper limit of the decay of the averaged weights used in validation and in the bundle;
    0 turns averaging off."""
    encoder_rate: float = 1.0
    """Share of the learning rate by which the encoder learns, and a decoder of Whisper's form: below 1
    where it is trained already and the heads are new."""
    layer_decay: float = 1.0
    """By how much each layer of the encoder learns more slowly than the one above it; 1 for all alike.
    Source: Clark et al. 2020, "ELECTRA", appendix A."""
    float32_products: Literal["highest", "high"] = "high"
    """Precision of products of float32 matrices on a GPU: ``high`` lets them use TF32, with 10 bits
    of fraction for 23 and several times the speed; ``highest`` does not. CPUs know no difference."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.warmup_steps < 0:
            raise ConfigError(
                f"optimization: learning_rate {self.learning_rate}, warmup_steps "
                f"{self.warmup_steps}; expected a positive rate and no negative number of steps. "
                "Correct the config."
            )
        if not (self.encoder_rate > 0.0 and 0.0 < self.layer_decay <= 1.0):
            raise ConfigError(
                f"optimization: encoder_rate is {self.encoder_rate}, layer_decay {self.layer_decay}; "
                "expected a positive rate, and above 0 to 1. Correct the config (model.freeze stops "
                "weights from learning)."
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ConfigError(
                f"optimization: ema_decay is {self.ema_decay}; expected 0 to below 1. "
                "Correct the config."
            )


def rates_of(optimizer: torch.optim.Optimizer) -> list[tuple[float, float]]:
    """Learning rate and weight decay of each group of parameters, before any schedule."""
    return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]


def set_rates(
    schedule: torch.optim.lr_scheduler.LambdaLR, asked: Sequence[tuple[float, float]]
) -> None:
    """Puts the rates that are asked for in the place of those that a checkpoint has brought.

    Args:
        schedule: With its optimiser; both as they are, where the rates are the same.
        asked: As `rates_of` has them; of an optimiser of other groups nothing changes.
    """
    groups = schedule.optimizer.param_groups
    if len(groups) != len(asked):
        return
    for place, (group, (rate, decay)) in enumerate(zip(groups, asked, strict=True)):
        group["weight_decay"] = decay
        if group["initial_lr"] != rate:
            group["lr"] *= rate / group["initial_lr"]
            group["initial_lr"] = schedule.base_lrs[place] = rate


def make_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """The optimiser of all parameters that learn, with weight decay on matrices only.

    SOAP turns matrices whose smaller side is in ``SOAP_SIDES``. Embeddings, whose gradients are
    zero but for a few rows, and all others are left to AdamW.
    """
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    rates = learning_rates(model, config)
    turned: dict[float, list[nn.Parameter]] = {}
    matrices: dict[float, list[nn.Parameter]] = {}
    vectors: dict[float, list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        if weight.ndim < 2:
            kind = vectors
        elif (
            config.optimizer == "soap"
            and min(weight.flatten(1).shape) in SOAP_SIDES
            and id(weight) not in embeddings
        ):
            kind = turned
        else:
            kind = matrices
        kind.setdefault(rates[name], []).append(weight)
    groups: list[dict[str, Any]] = [
        {"params": weights, "lr": rate, "weight_decay": decay}
        for kind, decay in ((matrices, config.weight_decay), (vectors, 0.0))
        for rate, weights in kind.items()
    ]
    exact = all(weight.dtype.itemsize >= 4 for group in groups for weight in group["params"])
    if config.optimizer == "adamw" and exact:
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=ADAMW_BETAS, fused=True)
    # weights in 16 bits learn in float32, which torch's own AdamW does not offer
    groups += [
        {
            "params": weights,
            "lr": rate,
            "weight_decay": config.weight_decay,
            "turned": True,
            "betas": SOAP_BETAS,
        }
        for rate, weights in turned.items()
    ]
    return Soap(groups, lr=config.learning_rate, betas=ADAMW_BETAS)


def encoder_names(model: nn.Module) -> list[str]:
    """Names of the weights of the encoder, without layers of our own on one of others."""
    names = [name for name, _ in model.named_parameters()]
    lower = [name for name in names if name.startswith("encoder.lower.")]
    return lower or [name for name in names if name.startswith("encoder.")]


def decoder_names(model: nn.Module) -> list[str]:
    """Names of the weights of a decoder of Whisper's form, which another has trained; none of others."""
    config: Any = getattr(model, "config", None)
    if not getattr(config, "decoder_positions", 0):
        return []
    return [name for name, _ in model.named_parameters() if name.startswith("heads.decoder.")]


_LAYER = re.compile(r"(?<!\bfront_end)\.layers\.(\d+)\.")
"""In names of weights of Transformer layers; the convolutions of a front end are numbered, too."""


def learning_rates(model: nn.Module, config: OptimizationConfig) -> dict[str, float]:
    """The peak learning rate of every parameter by its name.

    Heads learn by ``learning_rate``; the last layer of the encoder, and the norm after it, by the share
    ``encoder_rate`` of that; each layer below by ``layer_decay`` more slowly, and what is before the first
    layer more slowly still. Layers of our own on an encoder of others learn as heads do, and a decoder of
    Whisper's form as the last layer of the encoder.
    """
    taken = set(decoder_names(model))
    found = {name: _LAYER.search(name) for name in encoder_names(model)}
    layers = 1 + max((int(match[1]) for match in found.values() if match), default=-1)
    encoder = getattr(model, "encoder", None)
    encoder = getattr(encoder, "lower", encoder)
    last = {id(weight) for weight in encoder.norm.parameters()} if encoder is not None else set()
    rates = {}
    for name, weight in model.named_parameters():
        rates[name] = config.learning_rate * (config.encoder_rate if name in taken else 1.0)
        if name in found:
            match = found[name]
            below = layers - 1 - int(match[1]) if match else 0 if id(weight) in last else layers
            rates[name] *= config.encoder_rate * config.layer_decay**below
    return rates


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: float) -> float:
    """Share of the peak learning rate at a step: linear rise, then half a cosine down to 1 %."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

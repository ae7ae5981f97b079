"""Optimiser, learning-rate schedule and weight averaging."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from speechmm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How weights move."""

    learning_rate: float = 2e-3
    """Peak of the schedule."""
    warmup_steps: int = 200
    """Optimiser steps of linear rise from zero; afterwards a cosine falls to zero."""
    weight_decay: float = 0.01
    """Decoupled decay of matrices; vectors (norms, biases) are left alone."""
    ema_decay: float = 0.998
    """Upper limit of the decay of the averaged weights used in validation and in the bundle;
    0 turns averaging off."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.warmup_steps < 0:
            raise ConfigError(
                f"optimization: learning_rate {self.learning_rate}, warmup_steps "
                f"{self.warmup_steps}; expected a positive rate and no negative number of steps. "
                "Correct the config."
            )
        if not 0.0 <= self.ema_decay < 1.0:
            raise ConfigError(
                f"optimization: ema_decay is {self.ema_decay}; expected 0 to below 1. "
                "Correct the config."
            )


def make_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.AdamW:
    """Fused AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Share of the peak learning rate at a step: linear rise, then half a cosine down to 1 %."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


class AveragedWeights(WeightAveraging):
    """Exponential moving average that forgets the random start quickly.

    The decay grows as (1 + n) / (10 + n) up to its limit, as in Tensorflow's
    ExponentialMovingAverage with ``num_updates``.
    """

    def __init__(self, decay: float):
        def blend(
            averages: Iterable[Tensor], values: Iterable[Tensor], count: Tensor | int
        ) -> None:
            seen = int(count)
            share = 1.0 - min(decay, (1 + seen) / (10 + seen))
            with torch.no_grad():
                torch._foreach_lerp_(list(averages), list(values), share)

        super().__init__(multi_avg_fn=blend)

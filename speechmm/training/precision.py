"""Trains with weights in 16 bits beside features, statistics and losses in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import HalfPrecision, MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import nn
from torch.optim import Optimizer


class HalfWeights(HalfPrecision):
    """``bf16-true`` and ``16-true``: weights and what they compute are in 16 bits, nothing else.

    Lightning's own plugin rounds all of a batch and all buffers, too, and makes 16 bits the precision
    of every new tensor: of log-mel features, of random numbers, of the running label prior.
    """

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Rounds the weights."""
        for weight in module.parameters():
            weight.data = weight.data.to(self._desired_input_dtype)
        return module

    def convert_input(self, data: Any) -> Any:
        """A batch stays as it is."""
        return data

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        """New tensors are in float32."""
        return nullcontext()

    def forward_context(self) -> AbstractContextManager[Any]:  # type: ignore[override]
        """As above."""
        return nullcontext()


def keep_float32(trainer: L.Trainer) -> None:
    """Has a trainer with weights in 16 bits keep the rest in float32."""
    plugin = trainer.strategy.precision_plugin
    if type(plugin) is HalfPrecision:
        trainer.strategy.precision_plugin = HalfWeights(plugin.precision)


def clip_gradients(
    plugin: Precision, optimizer: Optimizer, limit: float, algorithm: str | None
) -> None:
    """Clips gradients under autocast, also those of fused optimisers, which Lightning refuses to.

    Those would take out the scale of ``16-mixed`` themselves, after clipping; here it is taken out
    before. They still skip a step of infinite gradients without asking the device.
    """
    assert isinstance(plugin, MixedPrecision)
    if plugin.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        plugin.scaler.unscale_(optimizer)
    Precision.clip_gradients(plugin, optimizer, limit, GradClipAlgorithmType(algorithm or "norm"))


def allow_tf32(products: str, device: torch.device) -> None:
    """Sets the precision of products of float32 matrices where the device has a choice."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision(products)

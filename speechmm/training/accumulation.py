"""Weighs the batches that make one optimiser step by their tokens, and keeps what is unfinished."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from speechmm.training.processes import all_sum
from speechmm.training.sharding import local


class Accumulation:
    """Gradients of several batches (``trainer.accumulate_grad_batches``), averaged over tokens.

    Lightning adds up the gradients of every batch divided by the number of batches, so that a token
    would weigh more in a batch of few, and all of an epoch's last part less. Here a batch is weighted
    by its tokens as they come, relative to those of the first, and the sum is divided before the step.
    """

    def __init__(self, batches: int):
        """Begins with nothing.

        Args:
            batches: That make a step; with 1 nothing is changed.
        """
        self.batches = batches
        self._first: Tensor | None = None
        self._total: Tensor | None = None

    def weigh(
        self, loss: Float[Tensor, ""], tokens: Shaped[Tensor, ""], batch_idx: int
    ) -> Float[Tensor, ""]:
        """The loss of a batch as it is to be added up.

        Args:
            loss: Mean over its tokens.
            tokens: How many these are in this process.
            batch_idx: Number of the batch in its epoch.
        """
        if self.batches == 1:
            return loss
        count = all_sum(tokens.detach().float()).clamp(min=1)
        if batch_idx % self.batches == 0 or self._first is None or self._total is None:
            self._first = self._total = count
        else:
            self._total = self._total + count
        return loss * (count / self._first)

    def average(self, network: nn.Module) -> None:
        """Turns the gradients, added up, into those of the mean over all tokens of the batches."""
        if self.batches == 1 or self._first is None or self._total is None:
            return
        gradients = [local(one.grad) for one in network.parameters() if one.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, self.batches * self._first / self._total)

    def state(self, network: nn.Module) -> dict[str, Any]:
        """What this process has added up for a step that is still to come."""
        gradients = {
            name: local(one.grad).detach().cpu()
            for name, one in network.named_parameters()
            if one.grad is not None
        }
        return {"gradients": gradients, "first": self._first, "total": self._total}

    def load_state(self, state: dict[str, Any], network: nn.Module) -> None:
        """Goes on from :meth:`state`."""
        self._first, self._total = state["first"], state["total"]
        for name, weight in network.named_parameters():
            gradient = state["gradients"].get(name)
            if gradient is not None:
                weight.grad = torch.zeros_like(weight)
                local(weight.grad).copy_(gradient)
            device = weight.device
        if self._first is not None and self._total is not None:
            self._first, self._total = self._first.to(device), self._total.to(device)

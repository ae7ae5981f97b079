"""Averages weights over the steps of a training, in float32, for validation and the bundle."""

from __future__ import annotations

import itertools

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Averages(AveragedModel):
    """Exponential moving averages that forget the random start quickly.

    The decay grows as (1 + n) / (10 + n) up to its limit, as in Tensorflow's
    ExponentialMovingAverage with ``num_updates``. Averages are kept in float32 also of weights in 16
    bits, whose last digits they would lose; their number n is kept on the host, for a step that
    asked the device for it would wait.
    """

    def __init__(self, model: nn.Module, device: torch.device, decay: float):
        super().__init__(model, device)
        self.module.float()
        self.n_averaged = torch.tensor(0)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Moves the averages towards the weights and the running means of the model."""
        seen = int(self.n_averaged)
        averages: list[Tensor] = [*self.module.parameters(), *self.module.buffers()]
        current = [*model.parameters(), *model.buffers()]
        values = [
            value.detach().to(average) for average, value in zip(averages, current, strict=True)
        ]
        if seen:
            share = 1.0 - min(self.decay, (1 + seen) / (10 + seen))
            torch._foreach_lerp_(averages, values, share)
        else:
            torch._foreach_copy_(averages, values)
        self.n_averaged += 1


class AveragedWeights(WeightAveraging):
    """Puts averaged weights in the place of the weights while they are validated, and at the end."""

    def __init__(self, decay: float):
        """Takes the upper limit of the decay."""
        super().__init__()
        self.decay = decay
        self._own: list[Tensor] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the averages, where the weights will be."""
        if stage == "fit":
            pl_module.configure_model()
            device = trainer.strategy.root_device
            self._average_model = Averages(pl_module, device, self.decay)

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        """Exchanges weights and averages; in 16 bits the averages would come back rounded."""
        current = [*pl_module.parameters(), *pl_module.buffers()]
        if self._own:
            for value, own in zip(current, self._own, strict=True):
                value.data.copy_(own)
            self._own = []
            return
        assert self._average_model is not None
        module = self._average_model.module
        averages = itertools.chain(module.parameters(), module.buffers())
        self._own = [value.data.clone() for value in current]
        for value, average in zip(current, averages, strict=True):
            value.data.copy_(average.data)

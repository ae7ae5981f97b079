"""Averages weights over the steps of a training, in float32, for validation and the bundle."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from speechmm.training.sharding import (
    load_whole,
    local,
    release,
    share_out,
    shares_weights,
    whole,
)


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
        """Moves the averages towards the weights and the running means of the model.

        Those of frozen weights are these weights, and stay.
        """
        seen = int(self.n_averaged)
        moves = [weight.requires_grad or not seen for weight in model.parameters()]
        moves += [True for _ in model.buffers()]
        every = zip(tensors(self.module), tensors(model), moves, strict=True)
        moving = [(average, value.to(average)) for average, value, moved in every if moved]
        averages, values = [one for one, _ in moving], [one for _, one in moving]
        if seen:
            share = 1.0 - min(self.decay, (1 + seen) / (10 + seen))
            torch._foreach_lerp_(averages, values, share)
        else:
            torch._foreach_copy_(averages, values)
        self.n_averaged += 1


def tensors(module: nn.Module) -> list[Tensor]:
    """What this process holds of the weights, and the buffers, without gradient."""
    own: list[Tensor] = [*module.parameters(), *module.buffers()]
    return [local(value.detach()) for value in own]


class AveragedWeights(WeightAveraging):
    """Puts averaged weights in the place of the weights while they are validated, and at the end."""

    def __init__(self, decay: float):
        """Takes the upper limit of the decay."""
        super().__init__()
        self.decay = decay
        self._shared = False
        self._own: list[Tensor] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Makes the averages, where the weights will be."""
        if stage == "fit":
            pl_module.configure_model()
            device = trainer.strategy.root_device
            mesh, pl_module._device_mesh = pl_module._device_mesh, None  # which cannot be copied
            self._average_model = Averages(pl_module, device, self.decay)
            pl_module._device_mesh = mesh
            self._shared = shares_weights(trainer)
            if self._shared:
                module = self._average_model.module
                network: Any = module.network
                share_out(network, trainer, root=module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the averages of all processes."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._shared:
            checkpoint["state_dict"] = whole(checkpoint["state_dict"])

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes up weights and averages; where they are shared out, the weights are the averages as yet."""
        if self._average_model is None:  # they are measured, not trained
            return
        if not self._shared:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
            return
        copy_all(pl_module, self._average_model.module)
        if "averaging_state" in checkpoint:
            self._average_model.load_state_dict(checkpoint["averaging_state"], strict=False)
            load_whole(pl_module, checkpoint["current_model_state"])

    def _copy_average_to_current(self, pl_module: L.LightningModule) -> None:
        """Ends with the averages."""
        assert self._average_model is not None
        copy_all(self._average_model.module, pl_module)

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        """Exchanges weights and averages; in 16 bits the averages would come back rounded."""
        assert self._average_model is not None
        release(pl_module)
        current = tensors(pl_module)
        if self._own:
            torch._foreach_copy_(current, self._own)
            self._own = []
            return
        self._own = [value.clone() for value in current]
        torch._foreach_copy_(current, tensors(self._average_model.module))


def copy_all(source: nn.Module, target: nn.Module) -> None:
    """Copies weights and buffers between modules of one kind, all or shares of them."""
    torch._foreach_copy_(tensors(target), tensors(source))

"""Ends a training whose weights are no longer numbers, before they replace a good checkpoint."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from speechmm.errors import ConfigError
from speechmm.training.checkpoints import last_in_full
from speechmm.training.sharding import local

LOOK_EVERY = 500
"""Steps from one look to the next: looking makes the host wait for the device."""


class StopWhenDiverged(Callback):
    """Looks at all weights every ``LOOK_EVERY`` steps and before every validation.

    A loss that is no number leaves weights that are none, unless its step was skipped, as mixed
    precision does; so it is the weights that are asked.
    """

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Looks now and then."""
        if (batch_idx + 1) % LOOK_EVERY == 0:
            self._check(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks before what is chosen and kept by the dev set."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks before the checkpoint of a training without validation."""
        self._check(trainer, pl_module)

    def _check(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        bad = not bool(_finite(module))
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce_boolean_decision(bad, all=False)
        if bad:
            raise ConfigError(
                f"{trainer.default_root_dir}: the training has diverged by epoch "
                f"{trainer.current_epoch + 1}, step {trainer.global_step}: weights are no longer "
                "finite; expected a loss that falls. Lower model.optimization.learning_rate or raise "
                "its warmup_steps, keep trainer.gradient_clip_val; --ckpt_path "
                f"{last_in_full(trainer.default_root_dir)} then goes on from the last whole epoch."
            )


def _finite(module: L.LightningModule) -> Tensor:
    """Whether all weights are numbers, on their device."""
    weights = [local(weight.detach()) for weight in module.parameters()]
    sums = [weight.float().abs().amax() for weight in weights if weight.numel()]
    if not sums:
        return torch.tensor(True)
    return torch.stack([one.to(sums[0].device) for one in sums]).isfinite().all()

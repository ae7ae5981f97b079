"""Makes a run folder that of a new training, once this has begun."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
from lightning.pytorch.callbacks import Callback


class RunStart(Callback):
    """Calls ``begin`` in the first process before the first step.

    By then settings and data are read and a checkpoint is restored: a command that is refused leaves
    the folder, and what an earlier training can go on from, as they are.
    """

    def __init__(self) -> None:
        self.begin: Callable[[], None] = lambda: None
        """What is to be done once, before the first checkpoint is written."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Does it."""
        if trainer.is_global_zero:
            self.begin()

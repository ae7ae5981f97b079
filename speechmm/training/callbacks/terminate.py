"""Ends all processes of a training when one of them is told to end."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class TerminateAllRanks(Callback):
    """SIGTERM ends every process of a training at once.

    Lightning waits in the signal's handler until the other processes have come to the same point, which
    they never do while they wait for this one's gradients. Nothing is lost: ``--ckpt_path last`` goes on
    from the last whole epoch. A single process ends after its step, as Lightning has it.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes the place of Lightning's handler, which its teardown removes."""
        if trainer.world_size == 1 or threading.current_thread() is not threading.main_thread():
            return

        def end(number: int, _: Any) -> None:
            launcher = trainer.strategy.launcher
            if launcher is not None:
                launcher.kill(number)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        signal.signal(signal.SIGTERM, end)

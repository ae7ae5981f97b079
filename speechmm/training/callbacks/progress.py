"""Shows the progress of a training: a bar in a terminal, a line an epoch in a log."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from speechmm.training.trainable import TrainingModule

SECONDS_BETWEEN_LOOKS = 0.5
"""To show the loss is to wait for the GPU, so the bar moves twice a second and not every step."""


class TrainingProgress(Callback):
    """One bar over the whole training with loss, WER and time left; a line an epoch in a log."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.task: TaskID | None = None
        self.began = 0.0
        self.shown = 0.0
        """When the bar was moved last."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the bar in a terminal."""
        assert isinstance(pl_module, TrainingModule)
        self.began = time.monotonic()
        if not (trainer.is_global_zero and sys.stderr.isatty()):
            return
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.completed}/{task.fields[planned]} steps"),
            TextColumn("{task.fields[scores]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task(
            "training",
            completed=trainer.global_step,
            scores="",
            **_length(pl_module),
        )
        self.progress.start()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Moves the bar."""
        if self.progress is None or self.task is None:
            return
        now = time.monotonic()
        if now - self.shown >= SECONDS_BETWEEN_LOOKS:
            self.shown = now
            loss = float(outputs["loss"])
            assert isinstance(pl_module, TrainingModule)
            scores = f"loss {loss:.2f} {pl_module.scores(trainer.callback_metrics)}"
            self.progress.update(
                self.task, completed=trainer.global_step, scores=scores, **_length(pl_module)
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes a line where there is no terminal."""
        if self.progress is None and trainer.is_global_zero:
            loss = trainer.callback_metrics.get("train/loss")
            shown = [] if loss is None else [f"loss {float(loss):.3f}"]
            assert isinstance(pl_module, TrainingModule)
            shown += filter(None, [pl_module.scores(trainer.callback_metrics)])
            planned = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
            done = min(1.0, trainer.global_step / max(1, pl_module.last_step))
            spent = time.monotonic() - self.began
            print(
                f"epoch {trainer.current_epoch + 1}{planned}: {', '.join(shown)} "
                f"({100 * done:.0f} %, {spent:.0f} s)",
                file=sys.stderr,
                flush=True,
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Closes the bar, so that the error is readable."""
        self._close()

    def _close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _length(module: TrainingModule) -> dict[str, Any]:
    """How long the bar is: unknown while only time is limited and no pace is known."""
    known = math.isfinite(module.last_step)
    steps = round(module.last_step) if known else None
    return {"total": steps, "planned": steps if known else "?"}

"""What a run shows and leaves behind: progress, curves, the bundle; and how it ends when told to."""

from __future__ import annotations

import csv
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
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

BUNDLE = "bundle"
CURVES = "curves.png"
METRICS = "metrics.csv"


class TrainingProgress(Callback):
    """One bar over the whole training with loss, WER and time left; a line an epoch in a log."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.task: TaskID | None = None
        self.began = 0.0

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
        if self.progress is not None and self.task is not None:
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


class EndTogether(Callback):
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


class TrainingCurves(Callback):
    """Draws losses and dev scores of ``metrics.csv`` as ``curves.png`` after each validation."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Redraws the picture; Lightning logs the losses of this epoch only after this."""
        self._draw(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the last epoch too."""
        for logger in trainer.loggers:
            logger.save()
        self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        table = self.folder / METRICS
        if trainer.is_global_zero and table.is_file():
            draw_curves(table, self.folder / CURVES)


class EarlierMetrics(Callback):
    """Keeps the rows of ``metrics.csv`` that a resumed training goes on from.

    Lightning deletes the table of an earlier run, so it is set aside until the step is known.
    """

    def __init__(self, folder: Path):
        self.table = folder / METRICS
        self.aside = folder / f".tmp-{METRICS}"

    def set_aside(self) -> None:
        """Moves the table out of Lightning's way; to be called before the trainer is run."""
        if self.table.is_file():
            self.table.replace(self.aside)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts back what was logged before this step; nothing when the training is a new one."""
        self._put_back(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts all of it back when there was nothing left to train."""
        self._put_back(trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Puts the table itself back when the training has not begun."""
        if trainer.is_global_zero and self.aside.is_file():
            self.aside.replace(self.table)

    def _put_back(self, trainer: L.Trainer) -> None:
        if not (trainer.is_global_zero and self.aside.is_file()):
            return
        rows = [row for row in _rows(self.aside) if int(row["step"]) < trainer.global_step]
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.experiment.metrics[:0] = rows
                logger.save()
        self.aside.unlink()


def _rows(table: Path) -> list[dict[str, Any]]:
    """Whole rows only: a killed program may have left half of one."""
    with table.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if None not in row.values()]
    filled = [{name: value for name, value in row.items() if value} for row in rows]
    return [row for row in filled if row.get("step", "").isdigit()]


def read_metrics(table: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) pairs by metric name, from Lightning's CSV log."""
    series: dict[str, list[tuple[float, float]]] = {}
    with table.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for name, value in row.items():
                if value and name not in ("step", "epoch") and row.get("step"):
                    series.setdefault(name, []).append((float(row["step"]), float(value)))
    return series


def draw_curves(table: Path, picture: Path) -> None:
    """Losses on the left, dev WER (and boundary error) on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = read_metrics(table)
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    for name in sorted(series):
        if "/loss" in name:
            losses.plot(*zip(*series[name], strict=True), label=name)
    losses.set(xlabel="step", ylabel="loss (nats)", title="losses")
    if series:
        losses.legend(fontsize="x-small")
    if "val/wer" in series:
        steps, values = zip(*series["val/wer"], strict=True)
        scores.plot(steps, [100 * value for value in values], label="dev WER (%)")
    if "val/perplexity" in series:
        scores.plot(*zip(*series["val/perplexity"], strict=True), label="dev perplexity")
    if "val/boundary_ms" in series:
        scores.plot(*zip(*series["val/boundary_ms"], strict=True), label="dev boundary error (ms)")
    scores.set(xlabel="step", ylim=(0, 100), title="dev scores")
    if scores.lines:
        scores.legend()
    aside = picture.with_name(f".tmp-{picture.name}")
    figure.savefig(aside, format="png", dpi=110)
    aside.replace(picture)


class BundleWriter(Callback):
    """Writes the best weights as a bundle when training ends."""

    def __init__(self, folder: Path, command: str):
        self.folder = folder
        self.command = command

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Loads the best checkpoint and saves it without its optimiser."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, TrainingModule)
        import torch

        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best and Path(best).is_file():
            state = torch.load(best, map_location="cpu", weights_only=True)
            weights = {
                name.removeprefix("network."): value
                for name, value in state["state_dict"].items()
                if name.startswith("network.")
            }
            assert pl_module.network is not None
            pl_module.network.load_state_dict(weights)
        score = getattr(trainer.checkpoint_callback, "best_model_score", None)
        training = {
            "seed": pl_module.seed,
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "selection": None if score is None else round(float(score), 5),
            "command": self.command,
        }
        pl_module.save(self.folder, training)

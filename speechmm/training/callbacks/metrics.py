"""Keeps ``metrics.csv`` whole over interruptions, and reads it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

METRICS = "metrics.csv"


class RestoreMetrics(Callback):
    """Keeps the rows of ``metrics.csv`` that a resumed training goes on from.

    Lightning deletes the table of an earlier run, so it is set aside until the step is known.
    """

    def __init__(self, folder: Path):
        self.table = folder / METRICS
        self.saved = folder / f".tmp-{METRICS}"

    def set_aside(self) -> None:
        """Moves the table out of Lightning's way; to be called before the trainer is run."""
        if self.table.is_file():
            self.table.replace(self.saved)

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
        if trainer.is_global_zero and self.saved.is_file():
            self.saved.replace(self.table)

    def _put_back(self, trainer: L.Trainer) -> None:
        if not (trainer.is_global_zero and self.saved.is_file()):
            return
        rows = [row for row in _rows(self.saved) if int(row["step"]) < trainer.global_step]
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.experiment.metrics[:0] = rows
                logger.save()
        self.saved.unlink()


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

"""Keeps ``metrics.csv`` whole over interruptions, and reads it."""

from __future__ import annotations

import contextlib
import csv
import re
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars as metrics_to_scalars
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from speechmm.files.atomic import write_aside

METRICS = "metrics.csv"
_STEP = re.compile(r"[0-9]{1,18}")


class MetricsTable(CSVLogger):
    """Lightning's table, rewritten aside when it gets new columns; the same row twice counts once."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """Writes the file, in the first process."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _WholeTable(log_dir=self.log_dir)
        return cast(ExperimentWriter, self._experiment)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Adds a row, unless it was the last one already."""
        row = (step, frozenset(metrics))
        if row != getattr(self, "_row", None):
            self._row = row
            super().log_metrics(metrics, step)


class _WholeTable(ExperimentWriter):
    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        table = Path(self.metrics_file_path)
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with (
            write_aside(table, ours=True) as aside,
            aside.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=fieldnames, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


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

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the epoch's row, which Lightning does only after the checkpoint: a kill would lose it.

        Were the program killed before the checkpoint, the row is of a step that will be done again,
        and `on_train_start` leaves it out.
        """
        metrics = metrics_to_scalars(trainer._logger_connector.metrics["log"])
        metrics.setdefault("epoch", trainer.current_epoch)
        step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger) and trainer.is_global_zero:
                if len(metrics) > 1:
                    logger.log_metrics(metrics, step)
                logger.save()

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
        # a validation amid the batches of one step is logged under that step, which is still to come
        steps = trainer.global_step + int(trainer.fit_loop.epoch_loop._should_accumulate())
        rows = [row for row in _rows(self.saved) if int(row["step"]) < steps]
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.experiment.metrics[:0] = rows
                logger.save()
        self.saved.unlink()


def _rows(table: Path) -> list[dict[str, Any]]:
    """Whole rows only: a killed program may have left half of one, a bad disk anything."""
    rows: list[dict[str, Any]] = []
    with table.open(newline="", encoding="utf-8", errors="replace") as stream:
        lines = csv.DictReader(line.replace("\0", "") for line in stream)
        with contextlib.suppress(csv.Error):  # whatever comes after cannot be told apart
            rows.extend(row for row in lines if None not in row and None not in row.values())
    filled = [{name: value for name, value in row.items() if value} for row in rows]
    return [row for row in filled if _STEP.fullmatch(row.get("step", ""))]


def read_metrics(table: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) pairs by metric name, from Lightning's CSV log; damaged rows are left out."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in _rows(table):
        for name, value in row.items():
            with contextlib.suppress(ValueError):
                if name not in ("step", "epoch"):
                    series.setdefault(name, []).append((float(row["step"]), float(value)))
    return series

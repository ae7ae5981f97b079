"""Draws losses and dev scores of a training."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from speechmm.files.atomic import write_aside
from speechmm.training.callbacks.metrics import METRICS, read_metrics

logger = logging.getLogger(__name__)

CURVES = "curves.png"
SECONDS_BETWEEN = 30.0
"""A picture takes a second or two, which is as long as a short epoch on a GPU."""


class TrainingCurves(Callback):
    """Draws losses and dev scores of ``metrics.csv`` as ``curves.png``: now and then, and at the end."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._drawn = -math.inf

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Redraws the picture; Lightning logs the losses of this epoch only after this."""
        if time.monotonic() - self._drawn >= SECONDS_BETWEEN:
            self._draw(trainer)
            self._drawn = time.monotonic()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the last epoch too."""
        for logger in trainer.loggers:
            logger.save()
        self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        table = self.folder / METRICS
        if not (trainer.is_global_zero and table.is_file()):
            return
        try:
            draw_curves(table, self.folder / CURVES)
        except Exception as error:  # a picture ends no training
            logger.warning("%s: not drawn (%s)", self.folder / CURVES, error)


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
    with write_aside(picture, ours=True) as aside:
        figure.savefig(aside, format="png", dpi=110)

"""Trains a config for some steps in each precision and writes a table of the losses beside float32.

    python tools/precisions.py OUT --config FILE [--steps 200] [--precisions bf16-mixed,bf16-true]
        [--any.key VALUE ...]

Every training has the same seed, batches and masks. Further settings are those of ``speechmm fit``. The
first row is ``32-true``; the second is float32 once more from weights that are changed in their 7th digit,
which is how much the rounding of a step alone can matter after so many.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from speechmm.cli.train import _filter_warnings
from speechmm.errors import SpeechmmError
from speechmm.training.command import TrainingCLI

DESCRIPTION = (__doc__ or "").partition("\n")[0]
LAST = 20
"""Steps whose losses are averaged."""
NUDGED = "32-true, other last digits"


class Losses(Callback):
    """Keeps the loss of every batch."""

    def __init__(self, nudge: float) -> None:
        self.losses: list[float] = []
        self.nudge = nudge

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Changes the last digits of the weights where that is asked for."""
        with torch.no_grad():
            for weight in pl_module.parameters() if self.nudge else ():
                weight.mul_(1 + self.nudge * torch.rand_like(weight))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Adds one."""
        self.losses.append(float(outputs["loss"]))


def train(folder: Path, precision: str, steps: int, settings: list[str]) -> list[float]:
    """The losses of a training of so many steps, which leaves only its logs."""

    def refuse(_: Any, message: str, cause: Exception) -> Any:
        raise SystemExit(f"precisions.py: {message}") from cause

    nudged = precision == NUDGED
    own = {
        "trainer.precision": precision.partition(",")[0],
        "trainer.max_epochs": -1,
        "trainer.max_time": "null",
        "trainer.max_steps": steps,
        "trainer.limit_val_batches": 0,
        "trainer.enable_checkpointing": "true",
        "trainer.default_root_dir": folder / precision.replace(", ", "-").replace(" ", "-"),
    }
    arguments = ["fit", *settings, *(f"--{name}={value}" for name, value in own.items())]
    cli = TrainingCLI(arguments, kind="joint", command="tools/precisions.py", refuse=refuse)
    kept = Losses(1e-7 if nudged else 0.0)
    cli.trainer.callbacks = [kept]  # type: ignore[attr-defined]
    cli.fit()
    if cli.lock is not None:
        cli.lock.release()
    return kept.losses


def table(losses: dict[str, list[float]], seconds: dict[str, float]) -> str:
    """Markdown: the mean of the last losses, and how far it is from the first row's."""
    lines = [
        f"| precision | loss, mean of the last {LAST} steps | beside 32-true | seconds |",
        "|---|---|---|---|",
    ]
    means = {name: statistics.fmean(values[-LAST:]) for name, values in losses.items()}
    reference = next(iter(means.values()))
    for name, mean in means.items():
        share = "" if mean is reference else f"{100 * (mean / reference - 1):+.2f} %"
        lines.append(f"| {name} | {mean:.4f} | {share} | {seconds[name]:.0f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Runs the trainings one after the other; the table is written anew after each."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("out", type=Path, help="folder of the trainings and of table.md")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--precisions", default="bf16-mixed,bf16-true")
    own, settings = parser.parse_known_args(arguments)
    _filter_warnings()
    losses: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for name in ["32-true", NUDGED, *own.precisions.split(",")]:
        began = time.monotonic()
        losses[name] = train(own.out, name, own.steps, settings)
        seconds[name] = time.monotonic() - began
        (own.out / "table.md").write_text(table(losses, seconds), encoding="utf-8")
        rows = [f"{loss:.6f}" for loss in losses[name]]
        (own.out / f"{name}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print((own.out / "table.md").read_text("utf-8"), end="")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SpeechmmError as error:
        raise SystemExit(f"precisions.py: {error}") from error

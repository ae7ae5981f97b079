"""Trainings that cannot go on: one line says why, nothing runs on, and what was good is kept."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmm.training.callbacks import divergence
from speechmm.training.callbacks.metrics import read_metrics
from speechmm.training.module import JointModule
from speechmm.training.tasks import Asr

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture(scope="module")
def good(shop) -> tuple[Path, Path]:
    """A training and a dev manifest."""
    return shop.corpus("train", 8), shop.corpus("dev", 2)


@pytest.mark.parametrize("look", ["now", "at the epoch's end"])
def test_a_training_that_diverges(look: str, shop, good, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"diverged-{look[0]}"
    folder = shop.root / "runs" / name
    if look == "now":
        monkeypatch.setattr(divergence, "LOOK_EVERY", 1)
    own_step = JointModule.training_step

    def step(module: JointModule, batch: Any, batch_idx: int) -> Any:
        loss = own_step(module, batch, batch_idx)
        # a loss that is no number leaves weights that are none
        return loss * float("nan") if module.current_epoch == 1 else loss

    monkeypatch.setattr(JointModule, "training_step", step)
    config = shop.config(name, *good, trainer={"max_epochs": 3})
    outcome = shop.fit(config)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if "error:" in line]
    assert line.startswith(f"speechmm fit: error: {folder}: the training has diverged by epoch 2")
    named = (
        f"--ckpt_path {folder / 'checkpoints' / 'last.ckpt'} then goes on from the last whole epoch"
    )
    assert named in line
    assert not (folder / "bundle").exists()
    for kept in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(folder / "checkpoints" / kept, weights_only=True)
        assert checkpoint["epoch"] == 0
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    monkeypatch.setattr(JointModule, "training_step", own_step)
    assert shop.fit(config, "--ckpt_path", "last").code == 0
    assert (folder / "bundle" / "model.safetensors").is_file()


def test_of_models_without_a_right_word_the_loss_chooses(
    shop, good, monkeypatch: pytest.MonkeyPatch
) -> None:
    above = iter([3.0, 5.0])  # of 2 words: the second epoch writes more that is wrong
    monkeypatch.setattr(Asr, "measure", lambda task, step: {"wer": (next(above), 2.0)})
    config = shop.config("wordless", *good, trainer={"max_epochs": 2, "num_sanity_val_steps": 0})
    outcome = shop.fit(config, "--data.batch_seconds", "100")
    assert outcome.code == 0, outcome.err
    run = shop.root / "runs" / "wordless"
    found = read_metrics(run / "metrics.csv")
    assert [value for _, value in found["val/wer"]] == [1.5, 2.5]
    losses = [value for _, value in found["val/loss"]]
    chosen_by = [value for _, value in found["val/selection"]]
    assert chosen_by == pytest.approx([1.0 + 0.01 * loss for loss in losses])
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    assert best == losses.index(min(losses))


def test_a_loader_that_is_killed(shop, good, each_batch) -> None:
    """As the system does where memory runs out."""

    def kill(epoch: int, batch: int, ids: list[str]) -> None:
        if (epoch, batch) == (1, 0):
            for worker in multiprocessing.active_children():
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGKILL)

    each_batch(kill)
    data = {"num_workers": 1, "batch_seconds": 1.0}
    config = shop.config("lost-worker", *good, data=data, trainer={"max_epochs": 3})
    outcome = shop.fit(config)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if "error:" in line]
    folder = shop.root / "runs" / "lost-worker"
    said = f"speechmm fit: error: {folder}: a process of this training has ended (DataLoader worker"
    assert line.startswith(said)
    assert "Lower data.num_workers" in line
    for child in multiprocessing.active_children():
        child.join(10)
    assert not multiprocessing.active_children()
    each_batch(lambda epoch, batch, ids: None)
    assert shop.fit(config, "--ckpt_path", "last").code == 0

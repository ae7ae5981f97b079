"""What a training goes on from: refused commands leave it, moved folders keep it, rates are as asked."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmm.training.checkpoints import keep_earlier

pytestmark = pytest.mark.usefixtures("no_picture")


class Run:
    """A training that was interrupted in its third epoch."""

    def __init__(self, shop, each_batch, name: str) -> None:
        self.shop, self.name = shop, name
        self.good = shop.corpus("train", 6), shop.corpus("dev", 2)
        self.folder = shop.root / "runs" / name
        self.epochs: list[int] = []
        each_batch(self._stop)
        self.stop_in: int | None = 2
        assert self.fit().code == 130
        self.stop_in = None
        self.epochs.clear()

    def _stop(self, epoch: int, index: int, ids: list[str]) -> None:
        self.epochs.append(epoch)
        if epoch == self.stop_in:
            raise KeyboardInterrupt

    def fit(self, *arguments: object, name: str = "") -> Any:
        config = self.shop.config(name or self.name, *self.good, trainer={"max_epochs": 3})
        return self.shop.fit(config, *arguments)

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints" / f"{name}.ckpt"

    def state(self, name: str) -> dict[str, Any]:
        return torch.load(self.checkpoint(name), weights_only=True)


def best_of(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of the best one."""
    (found,) = [one for key, one in state["callbacks"].items() if "val/selection" in key]
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        ("--ckpt_path", "last", "--data.tokenizer", "none.json"),
        ("--ckpt_path", "last", "--data.text", "[none.txt]"),
        ("--ckpt_path", "LAST", "--model.network.d_model", "32"),
        ("--data.train", "[none.jsonl.gz]"),
    ],
)
def test_a_refused_command_leaves_what_can_be_gone_on_from(
    wrong: tuple[str, ...], shop, each_batch
) -> None:
    run = Run(shop, each_batch, f"refused-{abs(hash(wrong))}")
    before = {path.name: path.read_bytes() for path in run.folder.glob("checkpoints/*")}
    started = (run.folder / "started.txt").read_bytes()
    wrong = tuple(str(run.checkpoint("last")) if one == "LAST" else one for one in wrong)
    assert run.fit(*wrong).code == 2
    assert {path.name: path.read_bytes() for path in run.folder.glob("checkpoints/*")} == before
    assert (run.folder / "started.txt").read_bytes() == started
    assert run.epochs == []
    assert run.fit("--ckpt_path", "last").code == 0
    assert set(run.epochs) == {2}


def test_a_named_checkpoint_of_the_run_is_gone_on_from_at_the_rate_asked_for(
    shop, each_batch
) -> None:
    run = Run(shop, each_batch, "named")
    best, rate = run.checkpoint("best").read_bytes(), 1e-9
    run.stop_in = 2
    named = ("--ckpt_path", run.checkpoint("previous"), "--model.optimization.learning_rate", rate)
    run.fit(*named)
    assert set(run.epochs) == {1, 2}
    assert (run.folder / "checkpoints" / "earlier-last.ckpt").is_file()
    (optimizer,) = run.state("last")["optimizer_states"]
    assert {group["initial_lr"] for group in optimizer["param_groups"]} == {rate}
    assert max(group["lr"] for group in optimizer["param_groups"]) <= rate
    (schedule,) = run.state("last")["lr_schedulers"]
    assert set(schedule["base_lrs"]) == {rate}
    assert (run.folder / "checkpoints" / "earlier-best.ckpt").read_bytes() == best
    assert run.state("best")["epoch"] == 1  # the first one after the change


def test_a_moved_run_knows_its_best(shop, each_batch) -> None:
    run = Run(shop, each_batch, "before")
    score, steps = best_of(run.state("last"))["best_model_score"], run.state("best")["global_step"]
    shutil.move(run.folder, shop.root / "runs" / "after")
    run.folder = shop.root / "runs" / "after"
    settings = ("--model.optimization.learning_rate", 1e-9)
    named = ("--ckpt_path", run.checkpoint("last"), *settings)
    assert run.fit(*named, name="after").code == 0
    found = best_of(run.state("last"))
    assert Path(found["best_model_path"]) == run.checkpoint("best")
    assert found["best_model_score"] <= score
    assert run.state("best")["global_step"] == steps or found["best_model_score"] < score


def test_a_best_one_that_is_gone_is_not_believed(shop, each_batch) -> None:
    run = Run(shop, each_batch, "lost")
    run.checkpoint("best").unlink()
    assert run.fit("--ckpt_path", "last").code == 0
    assert run.state("best")["epoch"] == 2


@pytest.mark.parametrize("asked", ["last", "previous", "other", None])
def test_what_is_put_aside(asked: str | None, tmp_path: Path) -> None:
    for name in ("last", "previous", "best", "other"):
        folder = tmp_path if name != "other" else tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.ckpt").write_text(name)
    paths = {"other": tmp_path / "elsewhere" / "other.ckpt", None: None}
    keep_earlier(tmp_path, but=paths.get(asked, tmp_path / f"{asked}.ckpt"))
    kept = {path.stem: path.read_text() for path in tmp_path.glob("*.ckpt")}
    expected = {
        "last": {"last": "last", "best": "best"},
        "previous": {"previous": "previous", "earlier-last": "last", "earlier-best": "best"},
        "other": {"earlier-last": "last", "earlier-best": "best"},
    }
    assert kept == expected["other" if asked is None else asked]
    assert (tmp_path / "elsewhere" / "other.ckpt").read_text() == "other"

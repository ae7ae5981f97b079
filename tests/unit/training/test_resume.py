"""A training that was stopped and goes on ends as one that ran through."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

EPOCHS = 3
CKPT = ("--ckpt_path", "last")
EachBatch = Callable[[Callable[[int, int, list[str]], None]], None]

pytestmark = pytest.mark.usefixtures("no_picture")


class Study:
    """The same training again and again, each time in its own folder."""

    def __init__(self, shop) -> None:
        self.shop = shop
        self.train, self.dev = shop.corpus("train", 10), shop.corpus("dev", 2)

    def config(self, name: str, **data: Any) -> Path:
        return self.shop.config(
            name, self.train, self.dev, trainer={"max_epochs": EPOCHS}, data=data
        )

    def folder(self, name: str) -> Path:
        return self.shop.root / "runs" / name

    def state(self, name: str, checkpoint: str = "last.ckpt") -> dict[str, Any]:
        return torch.load(self.folder(name) / "checkpoints" / checkpoint, weights_only=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """OpenMP's threads do not outlive a fork: a forked training that wants them waits forever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def study(shop) -> Study:
    return Study(shop)


@pytest.fixture(scope="module")
def through(study: Study) -> str:
    """The name of a run that nothing stopped."""
    assert study.shop.fit(study.config("through"), *CKPT).code == 0  # there is no last one yet
    return "through"


def differences(left: Any, right: Any, place: str = "") -> list[str]:
    """Where two checkpoints are not exactly equal."""
    if isinstance(left, torch.Tensor):
        return [] if torch.equal(left, right) else [place]
    if isinstance(left, dict):
        assert left.keys() == right.keys(), place
        return [d for key in left for d in differences(left[key], right[key], f"{place}/{key}")]
    if isinstance(left, list | tuple):
        assert len(left) == len(right), place
        pairs = enumerate(zip(left, right, strict=True))
        return [d for i, (one, other) in pairs for d in differences(one, other, f"{place}/{i}")]
    return [] if left == right else [place]


def check_same(study: Study, one: str, other: str) -> None:
    """Weights, averages, optimiser, schedule, place, logged numbers and bundle are the same."""
    states = [study.state(name) for name in (one, other)]
    for part in ("current_model_state", "state_dict", "averaging_state", "optimizer_states"):
        assert states[0][part], part
    for state in states:
        del state["callbacks"], state["loops"]  # folders and counters
    assert differences(*states) == []
    for file in ("metrics.csv", "bundle/model.safetensors"):
        found = [(study.folder(name) / file).read_bytes() for name in (one, other)]
        assert found[0] == found[1], file


def stop_at(epoch: int, index: int) -> Callable[[int, int, list[str]], None]:
    def stop(current: int, batch_idx: int, ids: list[str]) -> None:
        if (current, batch_idx) == (epoch, index):
            raise KeyboardInterrupt

    return stop


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("place", "workers"), [((1, 0), 0), ((2, 1), 1)], ids=["epoch-end", "in-an-epoch-with-worker"]
)
def test_after_ctrl_c(
    place: tuple[int, int], workers: int, study: Study, through: str, each_batch: EachBatch
) -> None:
    name = f"ctrl-c-{place}-{workers}"
    before = signal.getsignal(signal.SIGINT)
    each_batch(stop_at(*place))
    outcome = study.shop.fit(study.config(name, num_workers=workers))
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == "speechmm fit: interrupted"
    assert signal.getsignal(signal.SIGINT) is before
    assert not (study.folder(name) / "bundle").exists()
    assert not (study.folder(name) / "fit.json").exists()
    assert study.state(name)["epoch"] == place[0] - 1
    epochs: list[int] = []
    each_batch(lambda epoch, index, ids: epochs.append(epoch))
    assert study.shop.fit(study.config(name, num_workers=workers), *CKPT).code == 0
    assert sorted(set(epochs)) == list(range(place[0], EPOCHS))
    check_same(study, through, name)


def kill(epoch: int, batch_idx: int, ids: list[str]) -> None:
    if (epoch, batch_idx) == (1, 2):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_kill_9(study: Study, through: str, each_batch: EachBatch) -> None:
    config = study.config("killed")
    child = os.fork()
    if not child:
        try:
            each_batch(kill)
            study.shop.fit(config)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (study.folder("killed") / "bundle").exists()
    assert study.state("killed")["epoch"] == 0
    assert study.shop.fit(config, *CKPT).code == 0
    check_same(study, through, "killed")


def test_every_epoch_is_kept_not_only_the_best(
    study: Study, each_batch: EachBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    def only_the_first(self: ModelCheckpoint, trainer: Any, current: Any = None) -> bool:
        return not self.best_k_models

    monkeypatch.setattr(ModelCheckpoint, "check_monitor_top_k", only_the_first)
    each_batch(stop_at(2, 0))
    assert study.shop.fit(study.config("worse")).code == 130
    assert study.state("worse", "best.ckpt")["epoch"] == 0
    assert study.state("worse", "last.ckpt")["epoch"] == 1


def test_ctrl_c_while_the_bundle_is_written(
    study: Study, through: str, each_batch: EachBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    folder, config = study.folder(through), study.config(through)
    files = [folder / "metrics.csv", folder / "bundle" / "model.safetensors"]
    before = [file.read_bytes() for file in files]
    shutil.rmtree(folder / "bundle")
    each_batch(interrupted)  # nothing is left to train
    with monkeypatch.context() as patch:
        patch.setattr("speechmm.models.bundle.model_card", interrupted)
        assert study.shop.fit(config, *CKPT).code == 130
    assert not (folder / "bundle").exists()
    assert study.shop.fit(config, *CKPT).code == 0
    assert [file.read_bytes() for file in files] == before


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_finished_run_is_left_alone_until_a_setting_changes(
    study: Study, through: str, each_batch: EachBatch
) -> None:
    epochs: list[int] = []
    each_batch(lambda epoch, index, ids: epochs.append(epoch))
    folder = study.folder(through)
    (folder / "config.yaml").unlink()  # written anew, with or without where to go on from
    before = contents(folder)
    for arguments in (), CKPT:
        outcome = study.shop.fit(study.config(through), *arguments)
        line = f"{folder}: trained already with these settings and data\n"
        assert (outcome.code, outcome.out, outcome.err) == (0, "", line)
    (folder / "config.yaml").unlink()
    assert contents(folder) == before
    assert epochs == []
    longer = (*CKPT, "--trainer.max_epochs", EPOCHS + 1)
    assert study.shop.fit(study.config(through), *longer).code == 0
    assert set(epochs) == {EPOCHS}
    study.train.touch()
    epochs.clear()
    assert study.shop.fit(study.config(through), "--trainer.max_epochs", 1).code == 0
    assert set(epochs) == {0}
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3  # a new training begins a new table: names, validation, training


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("place", ["workers", "device"])
def test_words_of_other_utterances_are_drawn_again_as_they_would_have_been(
    place: str, study: Study, each_batch: EachBatch
) -> None:
    words = {
        "augmentation": {
            "recombination": {"share": 0.7, "after_epochs": 1},
            "concatenation": {"share": 0.3},
            "features": {"tempo": 0.1},
        }
    }
    names = [f"words-{place}{suffix}" for suffix in ("", "-resumed")]
    for name, workers in zip(names, (0, 2), strict=True):
        study.shop.config(
            name,
            study.train,
            study.dev,
            trainer={"max_epochs": EPOCHS},
            model=words,
            data={"num_workers": workers, "log_mel_on": place, "speeds": [0.9, 1.0]},
        )
    made: list[str] = []
    each_batch(lambda epoch, index, ids: made.extend(ids))
    assert study.shop.fit(study.shop.root / f"{names[0]}.yaml").code == 0
    assert any("+" in name for name in made)
    each_batch(stop_at(2, 1))
    config = study.shop.root / f"{names[1]}.yaml"
    assert study.shop.fit(config).code == 130
    each_batch(lambda *_: None)
    assert study.shop.fit(config, *CKPT).code == 0
    assert study.state(names[0])["recombination"][0]["known"]["ids"]
    check_same(study, *names)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_unpaired_texts_are_drawn_and_stretched_as_they_would_have_been(
    study: Study, each_batch: EachBatch
) -> None:
    lines = study.shop.root / "lines.txt"
    lines.write_text("go home now\na word\nhome\na word and a home\n" * 3, encoding="utf-8")
    names = ("texts", "texts-resumed")
    for name, workers in zip(names, (0, 2), strict=True):
        study.shop.config(
            name,
            study.train,
            study.dev,
            trainer={"max_epochs": EPOCHS},
            model={"tasks": {"text": {"weight": 0.5, "after_steps": 1}, "match": {"weight": 0.2}}},
            data={"num_workers": workers, "text": [str(lines)], "text_share": 0.3},
        )
    configs = [study.shop.root / f"{name}.yaml" for name in names]
    assert study.shop.fit(configs[0]).code == 0
    each_batch(stop_at(2, 1))
    assert study.shop.fit(configs[1]).code == 130
    each_batch(lambda *_: None)
    assert study.shop.fit(configs[1], *CKPT).code == 0
    assert "train/loss_text_ctc" in (study.folder(names[0]) / "metrics.csv").read_text()
    weights = study.state(names[0])["state_dict"]
    assert weights["network.heads.text_front_end.durations.gathered"].any()
    check_same(study, *names)


def test_mixed_sets_go_on_where_they_were(study: Study, each_batch: EachBatch) -> None:
    """Stopped where the epoch has a batch of the first set and none of the second to come."""
    other = study.shop.corpus("other", 7)
    mix = [
        {"name": "first", "manifests": [str(other)], "share": 0.7},
        {"name": "second", "manifests": [str(other)], "share": 0.2, "synthetic": True},
    ]
    names = ("mixed", "mixed-resumed")
    configs = [
        study.shop.config(
            name,
            study.train,
            study.dev,
            trainer={"max_epochs": EPOCHS, "val_check_interval": 2},
            data={"batch_seconds": 1.5, "mix": mix},
        )
        for name in names
    ]
    seen: list[tuple[int, int, str]] = []
    each_batch(lambda epoch, index, ids: seen.append((epoch, index, ids[0].partition(":")[0])))
    assert study.shop.fit(configs[0]).code == 0
    kinds = [kind for epoch, _, kind in seen if epoch == 1]
    assert {"first", "second"} < set(kinds)
    last = max(place for place, kind in enumerate(kinds) if kind == "second")
    assert "first" in kinds[last + 3 :]
    straight = list(seen)
    seen.clear()
    each_batch(stop_at(1, last + 3))
    assert study.shop.fit(configs[1]).code == 130
    each_batch(lambda epoch, index, ids: seen.append((epoch, index, ids[0].partition(":")[0])))
    assert study.shop.fit(configs[1], *CKPT).code == 0
    assert seen == straight[straight.index(seen[0]) :]
    assert seen[0][:2] > (1, last)
    check_same(study, *names)


@pytest.mark.parametrize(
    ("every", "accumulated", "stop"),
    [(2, 1, (1, 3)), (3, 2, (1, 4)), (5, 1, (2, 0)), (1, 4, (2, 2))],
    ids=["plain", "unfinished-step", "last-batch-of-an-epoch", "every-batch"],
)
def test_in_the_middle_of_an_epoch(
    every: int, accumulated: int, stop: tuple[int, int], study: Study, each_batch: EachBatch
) -> None:
    """No utterance is repeated or lost, and all weights are those of a training without a stop."""
    trainer = {
        "max_epochs": EPOCHS,
        "val_check_interval": every,
        "accumulate_grad_batches": accumulated,
    }
    names = [f"{kind}-{every}-{accumulated}" for kind in ("straight", "resumed")]
    configs = [
        study.shop.config(
            name, study.train, study.dev, trainer=trainer, data={"batch_seconds": 1.5}
        )
        for name in names
    ]
    seen: list[tuple[int, int, tuple[str, ...]]] = []
    each_batch(lambda epoch, index, ids: seen.append((epoch, index, tuple(ids))))
    assert study.shop.fit(configs[0]).code == 0
    straight = list(seen)
    assert max(index for _, index, _ in straight) >= stop[1]
    seen.clear()
    each_batch(stop_at(*stop))
    assert study.shop.fit(configs[1]).code == 130
    each_batch(lambda epoch, index, ids: seen.append((epoch, index, tuple(ids))))
    assert study.shop.fit(configs[1], *CKPT).code == 0
    place = [one[:2] for one in straight].index(seen[0][:2])
    assert place > 0
    assert (
        straight.index(seen[0]) >= [one[:2] for one in straight].index(stop) - every * accumulated
    )
    assert seen == straight[place:]
    check_same(study, *names)


@pytest.mark.parametrize("told", ["all", "first"])
def test_sigterm_ends_all_processes(told: str, study: Study) -> None:
    name = f"sigterm-{told}"
    trainer = {"max_epochs": 100_000, "devices": 2, "strategy": "ddp"}
    config = study.shop.config(name, study.train, study.dev, trainer=trainer)
    command = [sys.executable, "-m", "speechmm", "fit", "--config", config]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as running:
        try:
            assert running.stderr is not None
            assert any(line.startswith("epoch 2/") for line in running.stderr)
            if told == "all":
                os.killpg(running.pid, signal.SIGTERM)
            else:
                running.terminate()
            assert running.wait(60) == -signal.SIGTERM
            deadline = time.monotonic() + 60
            while _group_lives(running.pid):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            if _group_lives(running.pid):
                os.killpg(running.pid, signal.SIGKILL)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

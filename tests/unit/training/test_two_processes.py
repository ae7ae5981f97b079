"""Trainings in two processes, with weights copied or shared out: the losses of one, exact resuming."""

import multiprocessing
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lhotse import MonoCut
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from speechmm.data.manifest import read_cuts, write_cuts
from speechmm.data.shar_writing import write_shar
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.models.bundle import load_bundle
from speechmm.training.callbacks.metrics import read_metrics
from speechmm.training.sharding import check_strategy, chosen_strategy
from speechmm.training.universal_start import WORD_TIMES, WordFinder, read_rows

pytestmark = [
    pytest.mark.usefixtures("no_picture"),
    pytest.mark.skipif(sys.platform == "win32", reason="forks"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*returned a view tensor.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:The first cut drawn in batch:UserWarning"),
    pytest.mark.timeout(500),
]

EPOCHS, STEPS = 2, 4
STOP = (1, 3)
"""Epoch and batch before which a training is killed; the last checkpoint is of (1, 2)."""
NETWORK = {"d_model": 16, "heads": 2, "ff_dim": 16, "encoder_layers": 2, "decoder_layers": 1}
NOTHING_BY_CHANCE = {
    "spec_augment": {"time_masks": 0, "freq_masks": 0},
    "features": {"gain_db": 0.0},
}
MODEL_PARALLEL = {
    "data_parallel_size": 2,
    "tensor_parallel_size": 1,
    "save_distributed_checkpoint": False,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """OpenMP's threads do not outlive a fork."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Study:
    """The same training by one process and by two: two utterances a step, three in the dev set."""

    def __init__(self, shop) -> None:
        self.shop = shop
        self.sets = shop.root / "train.jsonl", shop.root / "dev.jsonl"
        texts = ("go home", "a word", "go now", "home")
        write_cuts(
            [shop.cut(f"train-{i}", 0.6, texts[i % 4]) for i in range(2 * STEPS)], self.sets[0]
        )
        write_cuts([shop.cut(f"dev-{i}", 2.0 + 0.1 * i, texts[i]) for i in range(3)], self.sets[1])

    def config(self, name: str, processes: int, strategy: Any = "auto", **model: Any) -> Path:
        # an utterance for each process a step; those of the dev set are longer, so each comes alone
        model = {
            "network": {**NETWORK, "front_channels": 4, "dropout": 0.0},
            "augmentation": NOTHING_BY_CHANCE,
            "optimization": {"warmup_steps": 3, "ema_decay": 0.9, **model},
        }
        trainer = {"max_epochs": EPOCHS, "devices": processes, "val_check_interval": 2}
        return self.shop.config(
            name,
            *self.sets,
            data={"batch_seconds": 1.2 / processes},
            model=model,
            trainer={**trainer, "strategy": strategy},
        )

    def folder(self, name: str) -> Path:
        return self.shop.root / "runs" / name

    def metrics(self, name: str) -> dict[str, Any]:
        return read_metrics(self.folder(name) / "metrics.csv")


@pytest.fixture(scope="module")
def study(shop) -> Study:
    return Study(shop)


@pytest.fixture(scope="module")
def one(study: Study) -> str:
    """The name of a run of one process."""
    assert study.shop.fit(study.config("one", 1)).code == 0
    return "one"


def free_port() -> int:
    """One below those that the system hands out, so that no other test gets it meanwhile."""
    for port in random.SystemRandom().sample(range(10_000, 32_000), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def fit_in_two(study: Study, config: Path, *arguments: object, command: str = "fit") -> list[int]:
    """Exit codes of two processes as a launcher starts them; exceptions end with 1."""
    port = free_port()

    def child(rank: int) -> None:
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
        }
        rank_zero_only.rank = rank  # known since the import
        outcome = study.shop.fit(config, *arguments, command=command)
        if outcome.code:
            print(outcome.err, file=sys.stderr)
        os._exit(outcome.code)

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=child, args=(rank,)) for rank in range(2)]
    for one in children:
        one.start()
    for one in children:
        one.join(200)
    codes = [one.exitcode for one in children]
    for one in children:
        one.kill()
    assert None not in codes, "a process waits for ever"
    return codes


def check_same_metrics(study: Study, name: str, other: str) -> None:
    """Every loss and score of every epoch."""
    found, expected = study.metrics(name), study.metrics(other)
    assert found.keys() == expected.keys()
    for metric, rows in expected.items():
        values = [value for _, value in found[metric]]
        assert values == pytest.approx([value for _, value in rows], rel=2e-4), metric


def check_same(study: Study, name: str, other: str) -> None:
    """Every loss and score of every epoch, and the weights of the bundle."""
    check_same_metrics(study, name, other)
    weights, others = (
        load_bundle(study.folder(one) / "bundle").model.state_dict() for one in (name, other)
    )
    for key, value in others.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-4)


def test_fit_by_the_command_measures_an_uneven_dev_set(study: Study, one: str) -> None:
    """Three utterances, each decoded: the second process has none of its own at the end."""
    config = study.config("by-command", 2, "ddp")
    done = subprocess.run(
        [sys.executable, "-m", "speechmm", "fit", "--config", config],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    check_same(study, "by-command", one)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_and_go_on_in_mid_epoch(
    strategy: str, study: Study, one: str, each_batch
) -> None:
    name = f"two-{strategy}"
    config = study.config(name, 2, strategy)

    def note_and_stop(part: str, stop: tuple[int, int] | None) -> None:
        def note(epoch: int, index: int, ids: list[str]) -> None:
            if (epoch, index) == stop:
                os._exit(9)
            seen = study.shop.root / f"{name}-{part}-{os.environ['LOCAL_RANK']}.txt"
            with seen.open("a", encoding="utf-8") as stream:
                stream.writelines(f"{epoch} {index} {one}\n" for one in ids)

        each_batch(note)

    note_and_stop("first", STOP)
    assert fit_in_two(study, config) == [9, 9]
    note_and_stop("second", None)
    assert fit_in_two(study, config, "--ckpt_path", "last") == [0, 0]

    def seen(part: str) -> list[list[str]]:
        files = [study.shop.root / f"{name}-{part}-{rank}.txt" for rank in range(2)]
        return [line.split() for file in files for line in file.read_text("utf-8").splitlines()]

    assert {tuple(row[:2]) for row in seen("second")} == {("1", "2"), ("1", "3")}
    kept = [row for row in seen("first") if (int(row[0]), int(row[1])) < (1, 2)] + seen("second")
    for epoch in range(EPOCHS):
        ids = [row[2] for row in kept if row[0] == str(epoch)]
        assert sorted(ids) == [f"train-{i}" for i in range(2 * STEPS)]
    check_same(study, name, one)
    assert fit_in_two(study, config, command="validate") == [0, 0]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_what_thaws_stays_as_it_is_until_then_in_two_processes_too(
    strategy: str, study: Study
) -> None:
    """The label prior of the alignment head, too."""
    flags = ("--model.freeze", "[heads.align, encoder.stack]", "--model.thaw_at", "[5, 3]")
    if not study.folder("thawing").is_dir():
        assert study.shop.fit(study.config("thawing", 1), *flags).code == 0
    name = f"thawing-{strategy}"
    assert fit_in_two(study, study.config(name, 2, strategy), *flags) == [0, 0]
    check_same_metrics(study, name, "thawing")
    heads = [
        load_bundle(study.folder(one) / "bundle").model.alignment_head for one in ("thawing", name)
    ]
    assert 0 < float(heads[0].prior_batches) < EPOCHS * STEPS
    for one, other in zip(heads[0].buffers(), heads[1].buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_two_processes_share_out_the_archives_of_a_corpus(study: Study, each_batch) -> None:
    """Each reads its own; together each utterance once an epoch, also after a stop in mid-epoch."""
    archives = study.shop.root / "shared.shar"
    archives.mkdir()
    cuts = [study.shop.cut(f"shared-{i}", 0.6) for i in range(10)]
    write_shar(cuts, archives, 3, SkipReport(strict=True))
    of = {cut.id: Path(cut.recording.sources[0].source).parent for cut in read_cuts(archives)}
    trainer = {"max_epochs": EPOCHS, "devices": 2, "strategy": "ddp", "val_check_interval": 2}
    data = {"batch_seconds": 1.2, "num_workers": 1}
    config = study.shop.config("shared", archives, study.sets[1], data=data, trainer=trainer)

    def note_and_stop(stop: tuple[int, int] | None) -> None:
        def note(epoch: int, index: int, ids: list[str]) -> None:
            if (epoch, index) == stop:
                os._exit(9)
            seen = study.shop.root / f"shared-{stop}-{os.environ['LOCAL_RANK']}.txt"
            with seen.open("a", encoding="utf-8") as stream:
                stream.write(" ".join([str(epoch), str(index), *ids]) + "\n")

        each_batch(note)

    note_and_stop((1, 2))
    assert fit_in_two(study, config) == [9, 9]
    note_and_stop(None)
    assert fit_in_two(study, config, "--ckpt_path", "last") == [0, 0]
    shares = [
        [
            line.split()
            for stop in ("(1, 2)", "None")
            for line in (study.shop.root / f"shared-{stop}-{rank}.txt").read_text().splitlines()
        ]
        for rank in range(2)
    ]
    assert [row[:2] for row in shares[0]] == [row[:2] for row in shares[1]]
    for epoch in ("0", "1"):
        ids = [[one for row in rows if row[0] == epoch for one in row[2:]] for rows in shares]
        assert sorted(ids[0] + ids[1]) == sorted(of)
        first, second = ({of[one] for one in own} for own in ids)
        assert len(first & second) <= 1  # what the shares differ by


def test_two_processes_share_out_the_words_that_the_universal_aligner_finds(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(finder: WordFinder, cut: MonoCut) -> dict[str, Any]:
        asked = study.shop.root / f"asked-{os.environ.get('LOCAL_RANK')}.txt"
        with asked.open("a", encoding="utf-8") as stream:
            stream.write(f"{cut.id}\n")
        words = cut.supervisions[0].text.split()
        return {
            "fit": -0.5,
            "words": [[0.2 * place, 0.2 * place + 0.1] for place in range(len(words))],
        }

    monkeypatch.setattr(WordFinder, "_found", found)
    led = ("--init_from", "universal")
    assert study.shop.fit(study.config("led", 1), *led).code == 0
    assert fit_in_two(study, study.config("led-by-two", 2, "ddp"), *led) == [0, 0]
    asked = [
        (study.shop.root / f"asked-{rank}.txt").read_text("utf-8").split() for rank in range(2)
    ]
    assert sorted(asked[0] + asked[1]) == [f"train-{i}" for i in range(2 * STEPS)]
    assert len(asked[0]) == STEPS
    rows = [read_rows(study.folder(name) / WORD_TIMES) for name in ("led", "led-by-two")]
    assert rows[0] == rows[1]
    check_same(study, "led-by-two", "led")


def test_lightning_s_model_parallel_strategy_trains_as_one_process(study: Study, one: str) -> None:
    path = "lightning.pytorch.strategies.ModelParallelStrategy"
    config = study.config("parallel", 2, {"class_path": path, "init_args": MODEL_PARALLEL})
    assert fit_in_two(study, config) == [0, 0]
    check_same(study, "parallel", one)


@pytest.mark.parametrize(
    ("strategy", "precision", "message"),
    [
        ("fsdp", "bf16-true", "bf16-true and .*expected 32-true or"),
        ("fsdp", "16-mixed", "16-mixed and .*expected 32-true or"),
        ("fsdp_cpu_offload", None, "fsdp_cpu_offload; expected fsdp, "),
        (FSDPStrategy(), "32-true", "FSDPStrategy; expected fsdp, "),
    ],
)
def test_what_shares_cannot_do_is_refused(strategy: Any, precision: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chosen_strategy(strategy, precision)


def test_only_whole_checkpoints_and_elementwise_optimisers_go_with_shares() -> None:
    check_strategy(ModelParallelStrategy(**MODEL_PARALLEL), "adamw")
    with pytest.raises(ConfigError, match="expected adamw"):
        check_strategy(ModelParallelStrategy(**MODEL_PARALLEL), "soap")
    with pytest.raises(ConfigError, match=r"tensor_parallel_size auto .*expected 1 and false"):
        check_strategy(ModelParallelStrategy(), "adamw")
    assert chosen_strategy("ddp", "16-mixed") == {}

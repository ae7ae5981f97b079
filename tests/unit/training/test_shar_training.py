"""A training on lhotse Shar: the losses of one on files, exact resuming, damage named, limits said."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmm.data import large_sampling, sampling
from speechmm.data.manifest import read_cuts, write_cuts
from speechmm.data.shar_writing import write_shar
from speechmm.data.skips import SkipReport
from speechmm.models.bundle import load_bundle
from speechmm.training import data_module
from speechmm.training.augmentation import planning

pytestmark = [
    pytest.mark.usefixtures("no_picture"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
EPOCHS = 2


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """OpenMP's threads do not outlive a fork."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shar_of(shop, name: str, count: int, size: int) -> Path:
    folder = shop.root / f"{name}.shar"
    folder.mkdir()
    cuts = read_cuts(shop.corpus(name, count))
    write_shar(list(cuts), folder, size, SkipReport(strict=True))
    return folder


def same_order(folder: Path) -> Path:
    """The manifest of the corpus, in the order of its archives."""
    cuts = {cut.id: cut for cut in read_cuts(folder.with_suffix(".jsonl"))}
    path = folder.with_suffix(".ordered.jsonl")
    write_cuts([cuts[cut.id] for cut in read_cuts(folder)], path)
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_the_losses_of_a_training_on_files(
    shop, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "SAMPLER_BUFFER", 0)  # batches as of a large corpus
    train, dev = (shar_of(shop, f"{name}-{workers}", 8, 3) for name in ("train", "dev"))
    data = {"num_workers": workers, "speeds": [1.0, 1.1]}
    runs = {"archives": (train, dev), "files": (same_order(train), same_order(dev))}
    for name, sets in runs.items():
        config = shop.config(f"{name}-{workers}", *sets, data=data, trainer={"max_epochs": EPOCHS})
        outcome = shop.fit(config)
        assert outcome.code == 0, outcome.err
    for file in ("metrics.csv", "bundle/model.safetensors"):
        found = [(shop.root / "runs" / f"{name}-{workers}" / file).read_bytes() for name in runs]
        assert found[0] == found[1], file


def test_a_killed_training_goes_on_exactly(shop, each_batch, monkeypatch) -> None:
    """In mid-epoch, in the second window, with a reading process: each utterance once an epoch."""
    monkeypatch.setattr(large_sampling, "WINDOW_ARCHIVES", 2)
    train, dev = shar_of(shop, "kill", 12, 2), shar_of(shop, "kill-dev", 2, 2)
    trainer = {"max_epochs": EPOCHS, "val_check_interval": 2}

    def config(name: str) -> Path:
        data = {"num_workers": 1, "batch_seconds": 1.5}
        return shop.config(name, train, dev, data=data, trainer=trainer)

    def train_and_note(name: str, part: str, stop: tuple[int, int], *arguments: Any) -> int:
        """Exit code of a training in a process of its own."""
        notes = shop.root / f"{name}-{part}.jsonl"

        def note(epoch: int, index: int, ids: list[str]) -> None:
            if (epoch, index) == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            with notes.open("a", encoding="utf-8") as file:
                file.write(json.dumps([epoch, index, ids]) + "\n")

        child = os.fork()
        if not child:
            each_batch(note)
            os._exit(shop.fit(config(name), *arguments).code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    never = (-1, -1)
    assert train_and_note("through", "all", never) == 0
    assert train_and_note("killed", "first", (1, 5)) == -signal.SIGKILL
    assert train_and_note("killed", "rest", never, "--ckpt_path", "last") == 0

    def noted(name: str) -> list[list[Any]]:
        text = (shop.root / f"{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    rest = noted("killed-rest")
    assert rest[0][:2] == [1, 4]
    kept = [row for row in noted("killed-first") if row[:2] < [1, 4]] + rest
    assert kept == noted("through-all")
    for epoch in range(EPOCHS):
        ids = [one for at, _, names in kept if at == epoch for one in names]
        assert sorted(ids) == sorted(f"kill-{i}" for i in range(12))
    for file in ("metrics.csv", "bundle/model.safetensors"):
        found = [(shop.root / "runs" / name / file).read_bytes() for name in ("through", "killed")]
        assert found[0] == found[1], file


@pytest.mark.parametrize("read_first", [True, False])
def test_an_archive_that_is_cut_off_is_named_and_left_out(
    shop, read_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not read_first:
        monkeypatch.setattr(data_module, "READ_FIRST_CUTS", 0)
    train, dev = (shar_of(shop, f"cut-{name}-{read_first}", 6, 2) for name in ("train", "dev"))
    tar = train / "recording.000001.tar"
    tar.write_bytes(tar.read_bytes()[:600])
    lost = {cut.id for cut in read_cuts(train / "cuts.000001.jsonl.gz")}
    name = f"cut-{read_first}"
    outcome = shop.fit(shop.config(name, train, dev, data={"num_workers": 1}))
    assert outcome.code == 3, outcome.err
    assert outcome.skipped.keys() == lost
    assert all(str(tar) in reason for reason in outcome.skipped.values())
    load_bundle(shop.root / "runs" / name / "bundle")


def test_a_folder_that_is_not_whole_is_refused(shop) -> None:
    train, dev = shar_of(shop, "lost", 4, 2), shar_of(shop, "lost-dev", 2, 2)
    (train / "recording.000001.tar").unlink()
    mistake = shop.fit(shop.config("lost", train, dev)).mistake
    assert "there is no recording.000001.tar beside it" in mistake
    empty = shop.root / "nothing"
    empty.mkdir()
    mistake = shop.fit(shop.config("nothing", empty, dev)).mistake
    assert f"{empty}: is a folder without cuts.000000.jsonl.gz" in mistake


def test_words_are_recombined_from_few_archives_only(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    train, dev = shar_of(shop, "words", 6, 2), shar_of(shop, "words-dev", 2, 2)
    model = {"augmentation": {"recombination": {"share": 1.0, "after_epochs": 0}}}

    def fit(name: str) -> Any:
        return shop.fit(shop.config(name, train, dev, model=model, trainer={"max_epochs": EPOCHS}))

    assert fit("words-few").code == 0
    monkeypatch.setattr(planning, "KEPT", 2)
    assert "it is in 3 archives, and words of recombined" in fit("words-many").mistake

"""Further sets of speech: drawn by their shares, told apart, and synthetic ones kept to recognition."""

import csv
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lhotse import MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.cut_table import CutTable
from speechmm.data.dataset import SpeechDataset
from speechmm.data.manifest import is_synthetic, make_cut, read_cuts, write_cuts
from speechmm.data.plan import BatchPlan
from speechmm.data.spoken import TargetReader, read_speakers
from speechmm.errors import ConfigError
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.mixing import MixedCuts, MixedSet, WithMixed, check_mix, mix
from speechmm.training.tasks import GuidedAttention, TasksConfig, Text, sum_losses
from speechmm.training.tasks.text import text_front_end

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture(scope="module")
def table(shop) -> CutTable:
    """23 utterances of 0.5 to 1.6 s."""
    return CutTable.of(list(read_cuts(shop.corpus("old", 23))))


def mixed(table: CutTable, share: float, *, seconds: float = 100.0, seed: int = 0) -> MixedCuts:
    config = MixedSet(name="old", manifests=["x"], share=share)
    return MixedCuts(config, table, 4.0, seconds, seed)


def seconds_of(plans: list[BatchPlan]) -> float:
    return sum(one.cut.duration for plan in plans for row in plan.rows for one in row)


@pytest.mark.parametrize("share", [0.03, 0.3, 1.7])
@pytest.mark.parametrize("world_size", [1, 3])
def test_a_share_is_kept_over_epochs(table: CutTable, share: float, world_size: int):
    """To within a batch of each process, whatever a single epoch can hold."""
    found = mixed(table, share)
    for epochs in (1, 7):
        plans = [
            plan
            for epoch in range(epochs)
            for rank in range(world_size)
            for plan in found.draw(epoch, world_size, rank)
        ]
        assert seconds_of(plans) == pytest.approx(epochs * share * 100.0, abs=4.0 * world_size)


def test_every_cut_comes_once_before_any_comes_again(table: CutTable):
    found = mixed(table, 0.1)
    seen: Counter[str] = Counter()
    for epoch in range(40):
        for plan in found.draw(epoch):
            seen.update(row[0].cut.id for row in plan.rows)
            assert max(seen.values()) - min(seen[f"old:{cut.id}"] for cut in table) <= 1
    assert len(seen) == 23
    assert min(seen.values()) > 5


def test_what_comes_depends_on_seed_and_epoch_only(table: CutTable):
    def drawn(source: MixedCuts, epoch: int) -> list[list[str]]:
        return [[row[0].cut.id for row in plan.rows] for plan in source.draw(epoch)]

    one = mixed(table, 0.4)
    through = [drawn(one, epoch) for epoch in range(5)]
    assert drawn(mixed(table, 0.4), 4) == through[4]
    assert [drawn(one, epoch) for epoch in (3, 0)] == [through[3], through[0]]
    assert drawn(mixed(table, 0.4, seed=1), 4) != through[4]


def test_processes_have_equally_many_batches_and_share_the_cuts(table: CutTable):
    found = mixed(table, 0.24)  # a pass and a little more
    ranks = [list(found.draw(0, 3, rank)) for rank in range(3)]
    assert {len(plans) for plans in ranks} == {found.epoch_batches(0, 3)}
    names = Counter(row[0].cut.id for plans in ranks for plan in plans for row in plan.rows)
    assert len(names) > 15
    assert max(names.values()) <= 2


def test_batches_stand_at_equal_distances_and_name_their_set(table: CutTable):
    class Cuts:
        def set_epoch(self, epoch: int) -> None:
            del epoch

        def __iter__(self):
            return iter([["cut"]] * 12)

    sampler = WithMixed(Cuts(), [mixed(table, 0.12)], batches=12)
    found = list(sampler)
    places = [place for place, one in enumerate(found) if isinstance(one, BatchPlan)]
    assert places == [2, 6, 10, 14]
    assert {found[place].source for place in places} == {"old"}
    assert not found[2].synthetic
    sampler.set_epoch(1)
    assert abs(len([one for one in sampler if isinstance(one, BatchPlan)]) - 4) <= 1


@pytest.mark.parametrize(
    "settings", [{"name": ""}, {"name": "Old data"}, {"name": "a/b"}, {"manifests": []},
                 {"share": -0.1}, {"share": float("inf")}, {"share": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"data\.mix: name"):
        MixedSet(**({"name": "old", "manifests": ["x"]} | settings))


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"the names are old, old; expected each once"):
        check_mix([MixedSet(name="old", manifests=[one]) for one in "ab"])


def test_synthetic_speech_teaches_recognition_and_nothing_else(shop, make_step):
    tokenizer = Tokenizer.load(shop.tokenizer)
    tasks = TasksConfig(text=Text(weight=0.5), guided_attention=GuidedAttention(weight=0.1))
    step = make_step(tokenizer, tasks, synthetic=True, source="spoken")
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    losses, shared = sum_losses(tasks, step)
    assert losses.keys() == {"loss", "loss_ctc", "loss_attention"}
    assert "occupancy" not in shared
    losses["loss"].backward()
    heads = {
        name.split(".")[1]
        for name, weight in step.model.named_parameters()
        if name.startswith("heads.") and weight.grad is not None and weight.grad.any()
    }
    assert heads == {"ctc", "decoder"}
    assert all(torch.equal(value, before[name]) for name, value in step.model.state_dict().items())
    real = make_step(tokenizer, tasks)
    assert "loss_forward_sum" in sum_losses(tasks, real)[0]
    assert text_front_end(real.model).durations.gathered.any()


def test_two_views_keep_the_name_of_the_set(shop, make_step):
    tokenizer = Tokenizer.load(shop.tokenizer)
    batch = make_step(tokenizer, TasksConfig(), synthetic=True, source="spoken").batch
    twice = batch.duplicated()
    assert (twice.source, twice.synthetic, len(twice)) == ("spoken", True, 2)
    assert batch.to("cpu").source == "spoken"


def marked(shop, name: str, size: int) -> Path:
    """A manifest of cuts that say themselves that they are synthetic."""
    cuts = [
        make_cut(
            id=cut.id,
            audio=cut.recording.sources[0].source,
            text=cut.supervisions[0].text,
            speaker="machine",
            custom={"synthetic": True},
        )
        for cut in read_cuts(shop.corpus(name, size))
    ]
    path = shop.root / f"{name}-marked.jsonl"
    write_cuts(cuts, path)
    return path


def test_cuts_that_say_so_are_synthetic_wherever_they_are(shop):
    path = marked(shop, "machine", 4)
    cuts = list(read_cuts(path))
    assert all(map(is_synthetic, cuts))
    assert CutTable.of(cuts).synthetic.all()
    assert read_speakers([str(path)]) == ("",)
    reader = TargetReader(LogMelConfig(), ("",))
    real = next(iter(read_cuts(shop.corpus("human", 1))))
    plan = BatchPlan.of([cuts[0], real])
    targets = reader(plan.rows, lambda key, read: read())
    assert targets is not None
    assert targets.rows.tolist() == [1]
    dataset = SpeechDataset(Tokenizer.load(shop.tokenizer), LogMelConfig(), targets=reader)
    assert dataset[plan].spoken is not None
    assert dataset[dataclasses.replace(plan, synthetic=True)].spoken is None


@pytest.fixture(scope="module")
def both(shop) -> CutTable:
    """Twelve natural utterances, and four that nobody said, among them."""
    natural = list(read_cuts(shop.corpus("natural", 12)))
    spoken = list(read_cuts(marked(shop, "spoken", 4)))
    return CutTable.of([*natural[:5], *spoken[:3], *natural[5:], *spoken[3:]])


def said_so(cuts: Sequence[MonoCut]) -> list[bool]:
    return [is_synthetic(cut) for cut in cuts]


def test_natural_and_synthetic_speech_of_a_set_share_no_batch(table: CutTable, both: CutTable):
    """Else one process would have losses in a step that another has not, and they would wait."""
    config = MixedSet(name="a", manifests=["x"], share=0.6)
    train, found = mix(table, [(config, both)], 2.0)
    assert len(train) == len(table)
    assert [one.config.synthetic for one in found] == [False, True]
    assert [len(one.cuts) for one in found] == [12, 4]
    assert sum(one.config.share for one in found) == pytest.approx(0.6)
    seconds = [float(one.cuts.durations.sum()) for one in found]
    shares = [one.config.share for one in found]
    assert shares[0] / shares[1] == pytest.approx(seconds[0] / seconds[1])
    kinds = []
    for rank in range(2):
        plans = list(WithMixed([], found, batches=1, world_size=2, rank=rank))
        assert plans
        for plan in plans:
            cuts = [cut.cut for row in plan.rows for cut in row]
            assert said_so(cuts) == [plan.synthetic] * len(cuts)
            assert plan.source == "a"
        kinds.append([plan.synthetic for plan in plans])
    assert kinds[0] == kinds[1]


def test_synthetic_speech_of_the_training_set_has_batches_of_its_own(both: CutTable):
    train, found = mix(both, [], 4.0)
    assert said_so(train) == [False] * 12
    assert [(one.config.name, one.config.synthetic) for one in found] == [("train-synthetic", True)]
    plans = [plan for epoch in range(20) for plan in found[0].draw(epoch)]
    assert seconds_of(plans) == pytest.approx(20 * found[0].cuts.durations.sum(), abs=4.0)
    spoken = both.keep(both.synthetic)
    train, found = mix(spoken, [], 4.0)  # nothing else is there: it is taken as it is
    assert len(train) == 4
    assert not found


def test_fit_mixes_sets_and_shows_their_losses_apart(shop):
    train, dev = shop.corpus("train", 10), shop.corpus("dev", 2)
    machine = marked(shop, "spoken", 6)
    mix = [
        {"name": "replay", "manifests": [str(train)], "share": 0.5},  # the same ids again
        {"name": "machine", "manifests": [str(machine)], "share": 0.6},
        {"name": "off", "manifests": ["missing.jsonl"], "share": 0},
    ]
    config = shop.config("mixed", train, dev, data={"mix": mix}, trainer={"max_epochs": 2})
    outcome = shop.fit(config)
    assert outcome.code == 0, outcome
    with (shop.root / "runs" / "mixed" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert len(rows) == 2
    assert all(float(row["train/replay/loss_forward_sum"]) > 0 for row in rows)
    assert all(float(row["train/machine/loss_ctc"]) > 0 for row in rows)
    assert "train/machine/loss_forward_sum" not in rows[0]
    assert not any("off" in name for name in rows[0])
    mistake = shop.fit(shop.config("typo", train, dev, data={"mix": [{"sharre": "a"}]})).mistake
    assert "sharre" in mistake
    absent = [{"name": "gone", "manifests": ["missing.jsonl"]}]
    assert (
        "missing.jsonl" in shop.fit(shop.config("gone", train, dev, data={"mix": absent})).mistake
    )

"""A training of some heads: the others are not there, and the bundle says so."""

import csv
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from speechmm.errors import ConfigError
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import load_bundle
from speechmm.models.speech_text import SpeechTextModel
from speechmm.training.tasks import Align, Asr, GuidedAttention, Task, TasksConfig, Translate

PARTS = {
    ("ctc",): {"align.weight": 0.0, "asr.ctc_weight": 1.0},
    ("decoder",): {"align.weight": 0.0, "asr.ctc_weight": 0.0},
    ("align",): {"asr.weight": 0.0},
    ("ctc", "decoder"): {"align.weight": 0.0},
    ("ctc", "align"): {"asr.ctc_weight": 1.0},
}


@pytest.mark.parametrize("heads", PARTS, ids="-".join)
def test_one_part_alone(shop, heads: tuple[str, ...]) -> None:
    name = "-".join(heads)
    train, dev = shop.corpus(f"{name}-train", 4), shop.corpus(f"{name}-dev", 2)
    config = shop.config(name, train, dev)
    flags = [f"--model.tasks.{key}={value}" for key, value in PARTS[heads].items()]
    fitted = shop.fit(config, *flags)
    assert fitted.code == 0, fitted.err
    run = shop.root / "runs" / name
    bundle = load_bundle(run / "bundle")
    assert bundle.heads == set(heads)

    with (run / "metrics.csv").open(newline="") as stream:
        named = {key for row in csv.DictReader(stream) for key, value in row.items() if value}
    assert ("val/wer" in named) == (heads != ("align",))
    assert ("train/loss_ctc" in named) == ("ctc" in heads)
    assert ("train/loss_attention" in named) == ("decoder" in heads)
    assert ("train/loss_forward_sum" in named) == ("align" in heads)

    torch.manual_seed(0)  # the seed of the training
    start = SpeechTextModel(
        bundle.model.config,
        vocab_size=bundle.model.vocab_size,
        n_mels=bundle.model.n_mels,
        align_vocab_size=bundle.model.align_vocab_size,
        heads=heads,
    )
    assert list(start.heads) == list(bundle.model.heads)  # what is not trained is not there
    for head in heads:
        pairs = zip(
            start.heads[head].parameters(), bundle.model.heads[head].parameters(), strict=True
        )
        assert any(not torch.equal(before, after) for before, after in pairs), head

    readers = {
        ("decoder",): lambda: Transcriber(bundle, options=SearchOptions(decoder="attention")),
        ("ctc",): lambda: Transcriber(bundle, options=SearchOptions(decoder="ctc")),
        ("ctc", "decoder"): lambda: Transcriber(bundle, options=SearchOptions(decoder="joint")),
        ("align",): lambda: Aligner(bundle),
    }
    for needed, reader in readers.items():
        if set(needed) <= set(heads):
            reader()
        else:
            with pytest.raises(ConfigError, match="it was trained with heads"):
                reader()
    if "ctc" in heads:
        Aligner(bundle, kind="ctc")


@pytest.mark.parametrize(
    "settings",
    [
        {"guided_attention": {"weight": 0.3}, "align": {"weight": 0.0}},
        {"guided_attention": {"weight": 0.3}, "asr": {"weight": 0.0}},
        {"guided_attention": {"weight": 0.3}, "asr": {"ctc_weight": 1.0}},
        {"asr": {"consistency_weight": 0.2, "ctc_weight": 0.0}},
        {"asr": {"consistency_weight": 0.2, "weight": 0.0}},
    ],
)
def test_tasks_without_what_they_work_on_are_refused(settings: dict[str, dict[str, float]]) -> None:
    types = {"asr": Asr, "align": Align, "guided_attention": GuidedAttention}
    with pytest.raises(ConfigError, match="to be trained"):
        TasksConfig(**{name: types[name](**values) for name, values in settings.items()})


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected asr or align to be positive"):
        TasksConfig(asr=Asr(weight=0.0), align=Align(weight=0.0))


@dataclass(frozen=True, kw_only=True)
class Reader(Task):
    """Reads what another task gives."""

    name: ClassVar[str] = "reader"
    reads: ClassVar[frozenset[str]] = frozenset({"occupancy"})

    weight: float = 1.0
    copies: int = 1

    @property
    def views(self) -> int:
        return self.copies


def test_a_task_that_reads_what_nobody_gives_is_refused() -> None:
    TasksConfig(others=[Reader()])
    with pytest.raises(ConfigError, match=r"reader has weight 1\.0 and reads occupancy"):
        TasksConfig(align=Align(weight=0.0), others=[Reader()])
    with pytest.raises(ConfigError, match="wants 3 views"):
        TasksConfig(others=[Reader(copies=3)])


@pytest.mark.parametrize("task", ["asr", "align", "guided_attention"])
def test_a_weight_that_is_no_number_is_one_line(shop, task: str) -> None:
    train, dev = shop.corpus("word-train", 2), shop.corpus("word-dev", 1)
    outcome = shop.fit(shop.config("word", train, dev), f"--model.tasks.{task}.weight=abc")
    assert f"model.tasks.{task}.weight" in outcome.mistake


def test_guidance_needs_recognition_to_attend() -> None:
    """Another task may have brought the decoder: nobody says where recognition attends to then."""
    with pytest.raises(ConfigError, match="reads log_attention; expected an active task before it"):
        TasksConfig(
            asr=Asr(ctc_weight=1.0),
            translate=Translate(weight=1.0),
            guided_attention=GuidedAttention(weight=0.3),
        )

"""A trained model teaches another one: CTC at another rate, decoder, alignment; nothing of it is kept."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from speechmm.models.bundle import load_bundle
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.tasks import TasksConfig
from speechmm.training.tasks.distillation import asked_of_teacher, at_other_rate

pytestmark = pytest.mark.usefixtures("no_picture")


def distributions(*frames: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor([frames]).clamp(min=1e-9).log()


def test_at_the_same_rate_nothing_changes() -> None:
    given = torch.randn(2, 5, 4).log_softmax(dim=-1)
    same = at_other_rate(given, torch.tensor([5, 5]), 5, 4, 4)
    torch.testing.assert_close(same, given, atol=1e-4, rtol=1e-4)


def test_a_slower_student_hears_every_token() -> None:
    """Two frames of 20 ms become one of 40 ms: blank only where both are."""
    given = distributions((1, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 0), (0.5, 0, 0.5))
    found = at_other_rate(given, torch.tensor([5]), 3, 2, 4).exp()
    expected = torch.tensor([[[0.0, 1, 0], [1, 0, 0], [0.5, 0, 0.5]]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(1, 3))


def test_a_faster_student_hears_the_nearest_frame() -> None:
    given = distributions((1, 0, 0), (0, 1, 0))
    found = at_other_rate(given, torch.tensor([2]), 5, 4, 2).exp()
    assert found.argmax(dim=-1).tolist() == [[0, 1, 1, 1, 1]]


def test_padding_says_nothing() -> None:
    given = distributions((0, 1, 0), (0, 0, 1), (0, 0, 1))
    found = at_other_rate(given, torch.tensor([1]), 3, 4, 4).exp()
    assert found.argmax(dim=-1).tolist() == [[1, 0, 0]]


class Study:
    """A teacher, and students of it."""

    def __init__(self, shop) -> None:
        self.shop = shop
        self.train, self.dev = shop.corpus("train", 8), shop.corpus("dev", 2)
        assert shop.fit(shop.config("teacher", self.train, self.dev)).code == 0
        self.teacher = shop.root / "runs" / "teacher" / "bundle"

    def fit(self, name: str, *arguments: object, **distillation: Any):
        model = {"tasks": {"distillation": {"teacher": str(self.teacher)} | distillation}}
        model["network"] = {"d_model": 8, "heads": 2, "ff_dim": 8, "encoder_layers": 1}
        model["network"] |= {"decoder_layers": 1, "front_channels": 4, "subsampling": 8}
        trainer = {"max_epochs": 2}
        path = self.shop.config(name, self.train, self.dev, model=model, trainer=trainer)
        return self.shop.fit(path, *arguments)

    def folder(self, name: str) -> Path:
        return self.shop.root / "runs" / name


@pytest.fixture(scope="module")
def study(shop) -> Study:
    return Study(shop)


def test_a_smaller_student_at_another_rate_learns_and_goes_on_exactly(study, each_batch) -> None:
    assert study.fit("through", temperature=2.0).code == 0

    def stop(epoch: int, index: int, ids: list[str]) -> None:
        if (epoch, index) == (1, 0):
            raise KeyboardInterrupt

    each_batch(stop)
    assert study.fit("stopped", temperature=2.0).code == 130
    each_batch(lambda *_: None)
    outcome = study.fit("stopped", "--ckpt_path", "last", temperature=2.0)
    assert outcome.code == 0, outcome.err
    weights = [
        load_file(study.folder(one) / "bundle" / "model.safetensors")
        for one in ("through", "stopped")
    ]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    rows = list(csv.DictReader((study.folder("through") / "metrics.csv").read_text().splitlines()))
    for name in ("ctc", "decoder", "align"):
        values = [float(row[f"train/loss_teacher_{name}"]) for row in rows if row["train/loss"]]
        assert len(values) == 2
        assert all(value > 0 for value in values), name
    # nothing of the teacher is in what is written
    state = torch.load(study.folder("through") / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["state_dict"].keys() == {f"network.{name}" for name in weights[0]}
    assert load_bundle(study.folder("through") / "bundle").model.subsampling == 8


def test_a_student_that_is_its_teacher_has_nothing_to_learn(study: Study) -> None:
    path = study.shop.config("twin", study.train, study.dev, trainer={"max_steps": 1})
    settings = yaml.safe_load(path.read_text("utf-8"))
    del settings["model"]["network"]
    settings["init_from"] = str(study.teacher)
    settings["model"]["tasks"] = {"distillation": {"teacher": str(study.teacher)}}
    masks = {"spec_augment": {"time_masks": 0, "freq_masks": 0}, "features": {"gain_db": 0.0}}
    settings["model"]["augmentation"] = masks
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    assert study.shop.fit(path, "--model.network.dropout", "0").code == 0
    rows = list(csv.DictReader((study.folder("twin") / "metrics.csv").read_text().splitlines()))
    for name in ("ctc", "decoder", "align"):
        values = [float(row[f"train/loss_teacher_{name}"]) for row in rows if row["train/loss"]]
        assert values
        assert max(map(abs, values)) < (1e-3 if name == "align" else 1e-5), name  # its prior moves


def test_a_teacher_that_cannot_teach_is_refused_in_one_line(study: Study) -> None:
    tokenizer = study.shop.root / "other.json"
    train_tokenizer(["go home now", "a word", "quickly"], kind="char").save(tokenizer)
    outcome = study.fit("other", "--data.tokenizer", tokenizer)
    assert "expected the teacher's tokenizer" in outcome.mistake
    outcome = study.fit("features", "--data.features.n_mels", "40")
    assert "expected the same features" in outcome.mistake
    outcome = study.fit("nowhere", teacher=str(study.shop.root / "nowhere"))
    assert outcome.mistake
    outcome = study.fit("cold", temperature=0.0)
    assert "a temperature above 0" in outcome.mistake


def test_a_teacher_is_asked_for_what_it_has_learned_to_write(make_step) -> None:
    """With languages, that is a tag of one of them: the plain tag has learned to tell them apart."""
    tokenizer = train_tokenizer(["go home now"], kind="char")

    def model(*tags: str) -> SpeechTextModel:
        config = SpeechTextConfig(
            d_model=16, heads=2, ff_dim=16, encoder_layers=2, decoder_layers=1, front_channels=4
        )
        return SpeechTextModel(config, vocab_size=tokenizer.vocab_size, n_mels=20, tags=tags).eval()

    teacher, student = model("asr", "asr:en", "asr:de"), model("asr", "asr:de", "asr:fr")
    said = ("go", "home", "now")
    step = make_step(tokenizer, TasksConfig(), said, languages=torch.tensor([0, 1, -1]))
    taught = teacher.encode_speech(step.batch.features, step.batch.feature_lengths)
    heard = 1 + teacher.language_logits(taught).argmax(dim=1)
    asked = asked_of_teacher(dataclasses.replace(step, model=student), teacher, taught)
    assert asked.tolist() == [
        2,
        heard[1],
        heard[2],
    ]  # German; French, which it has not; nobody knows
    plain = dataclasses.replace(step.batch, languages=None)
    one = model("asr")
    asked = asked_of_teacher(dataclasses.replace(step, model=one, batch=plain), teacher, taught)
    assert asked.tolist() == heard.tolist()
    assert asked_of_teacher(dataclasses.replace(step, batch=plain), one, taught) == "asr"

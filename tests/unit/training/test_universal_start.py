"""Trainings that begin where the universal aligner has the words."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from lhotse import MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.manifest import make_cut, read_cuts, write_cuts
from speechmm.models.forward_sum import GUIDE_SLOPE, guided_log_prior
from speechmm.models.lora import LoraConfig
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.augmentation import AugmentationConfig, Augmenter
from speechmm.training.augmentation.features import FeatureAugmentConfig
from speechmm.training.augmentation.silence import SilenceConfig
from speechmm.training.compiling import pad_shapes
from speechmm.training.starting_point import StartingPoint, starting_defaults
from speechmm.training.tasks import Align, Asr, TasksConfig
from speechmm.training.universal_start import WORD_TIMES, WordFinder, read_rows

pytestmark = pytest.mark.usefixtures("no_picture")

INF, NAN = math.inf, math.nan
GO = [(-INF, 20.0), (20.0, 30.0), (20.0, 30.0), (30.0, INF)]
"""Windows of silence, g, o, silence."""
ALIGN_ALONE = TasksConfig(asr=Asr(weight=0.0), align=Align(warmup_steps=100))


def test_a_token_costs_more_the_farther_it_is_from_its_window() -> None:
    guides = torch.tensor([[(-INF, 1.0), (1.0, 2.5), (2.5, INF)], [(NAN, NAN)] * 3])
    unguided = torch.arange(24.0).reshape(2, 4, 3)
    found = guided_log_prior(guides, 4, unguided)
    distance = torch.tensor([[0, 1, 2.5], [0, 0, 1.5], [1, 0, 0.5], [2, 0.5, 0]])
    torch.testing.assert_close(found[0], -GUIDE_SLOPE * distance)
    assert torch.equal(found[1], unguided[1])


def occupancy(make_step, number: int, guides: torch.Tensor | None) -> torch.Tensor:
    """The soft alignment of two utterances at an optimiser step."""
    tokenizer = train_tokenizer(["go home"], kind="char")
    step = make_step(tokenizer, ALIGN_ALONE, ("go", "go"), guides=guides)
    step.model.train()
    step = dataclasses.replace(step, number=number)
    return ALIGN_ALONE.align.losses(step, {}).shared["occupancy"]


def share_inside(found: torch.Tensor) -> float:
    """Of the frames that the word of the first row has: those in its window."""
    word = found[0, :, 1:3].sum(dim=1)
    return float(word[20:31].sum() / word.sum())


def test_the_soft_alignment_is_led_at_first_and_not_for_ever(make_step) -> None:
    guides = torch.tensor([GO, [(NAN, NAN)] * 4])
    usual, led = (occupancy(make_step, 0, one) for one in (None, guides))
    assert share_inside(usual) < 0.5
    assert share_inside(led) > 0.9
    assert torch.equal(led[1], usual[1])  # without times, the usual prior
    nothing = torch.full((2, 4, 2), NAN)
    assert torch.equal(occupancy(make_step, 0, nothing), usual)
    assert share_inside(usual) < share_inside(occupancy(make_step, 90, guides)) < share_inside(led)
    after = [occupancy(make_step, 100, one) for one in (None, guides)]
    assert torch.equal(*after)


def augmented(make_step, **settings):
    tokenizer = train_tokenizer(["go home"], kind="char")
    guides = torch.tensor([GO, [(NAN, NAN)] * 4])
    batch = make_step(tokenizer, ALIGN_ALONE, ("go", "go"), guides=guides).batch
    config = AugmentationConfig(**settings)
    found = Augmenter(config, LogMelConfig(n_mels=20), views=settings.pop("views", 1))(
        batch, 0, lambda features, lengths: features
    )
    return batch, found


def test_times_move_with_a_pause_and_silence_has_none(make_step) -> None:
    settings = {"silence": SilenceConfig(pause_share=1.0, alone_share=1.0)}
    torch.manual_seed(3)
    batch, found = augmented(make_step, **settings)
    guides = found.batch.guides
    assert guides.shape == (4, 4, 2)
    assert guides[1:].isnan().all()
    moved = guides[0, 1, 0] - 20.0
    added = found.batch.feature_lengths[0] - batch.feature_lengths[0]
    assert 0 < moved <= added
    assert torch.equal(guides[0], torch.tensor(GO) + moved)


def test_times_follow_the_tempo_and_every_view(make_step) -> None:
    torch.manual_seed(0)
    batch, found = augmented(make_step, features=FeatureAugmentConfig(tempo=0.3))
    ratio = found.batch.feature_lengths[0] / batch.feature_lengths[0]
    assert ratio != 1.0
    torch.testing.assert_close(found.batch.guides[0], torch.tensor(GO) * ratio)
    twice = found.batch.duplicated().guides
    assert torch.equal(twice[2:].nan_to_num(), found.batch.guides.nan_to_num())
    wider = pad_shapes(found, "layers", 4).batch
    assert wider.guides.shape == (*wider.align_tokens.shape, 2)
    assert not wider.guides[0, 4:].any()


class Study:
    """Trainings on noise, of which somebody claims to know where the words are."""

    def __init__(self, shop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shop = shop
        self.asked: list[str] = []
        self.fits: dict[str, float] = {}
        monkeypatch.setattr(WordFinder, "_found", self.found)
        train, dev = shop.root / "train.jsonl", shop.root / "dev.jsonl"
        if not train.exists():
            shop.corpus("train", 6)
            shop.corpus("dev", 2)
        self.sets = train, dev

    def found(self, cut: MonoCut) -> dict:
        """Words of equal length over the whole utterance."""
        self.asked.append(cut.id)
        words = cut.supervisions[0].text.split()
        seconds = cut.duration / len(words)
        times = [[i * seconds, (i + 1) * seconds] for i in range(len(words))]
        return {"fit": self.fits.get(cut.id, -0.5), "words": times}

    def config(self, name: str, **changes) -> Path:
        return self.shop.config(name, *self.sets, **changes)

    def fit(self, config: Path, *arguments: object):
        return self.shop.fit(config, "--init_from", "universal", *arguments)


@pytest.fixture
def study(shop, monkeypatch: pytest.MonkeyPatch) -> Study:
    return Study(shop, monkeypatch)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The guides of the rows that have been trained on, by their ids."""
    from speechmm.training.module import JointModule

    guides: dict[str, torch.Tensor] = {}
    original = JointModule.on_train_batch_start

    def hook(module: JointModule, batch, batch_idx: int) -> None:
        if batch.guides is not None:
            guides.update(zip(batch.ids, batch.guides, strict=True))
        original(module, batch, batch_idx)

    monkeypatch.setattr(JointModule, "on_train_batch_start", hook)
    return guides


TRAIN = [f"train-{number}" for number in range(6)]


def test_every_utterance_is_placed_once_and_kept_for_a_training_that_goes_on(
    study: Study, seen: dict[str, torch.Tensor]
) -> None:
    config = study.config("through", data={"speeds": [0.9, 1.0]}, trainer={"max_epochs": 2})
    file = study.shop.root / "runs" / "through" / WORD_TIMES
    outcome = study.fit(config)
    assert outcome.code == 0
    assert sorted(one.removesuffix("_sp0.9") for one in study.asked) == TRAIN
    assert "words of 6 of 6 utterances found; 6 were aligned in " in outcome.err
    assert set(seen) == {*TRAIN, *(f"{one}_sp0.9" for one in TRAIN)}
    slow, usual = seen["train-1_sp0.9"], seen["train-1"]
    torch.testing.assert_close(slow[:7], usual[:7] / 0.9, atol=0.1, rtol=0.0)
    before = file.read_bytes()
    study.asked.clear()
    longer = study.fit(config, "--ckpt_path", "last", "--trainer.max_epochs", 3)
    assert longer.code == 0 and study.asked == []
    assert f"words of 6 of 6 utterances known from {file}" in longer.err
    assert file.read_bytes() == before


def test_what_has_changed_is_placed_anew(study: Study) -> None:
    config = study.config("changed")
    assert study.fit(config).code == 0
    file = study.shop.root / "runs" / "changed" / WORD_TIMES
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([*lines[:2], '{"utterance": "x"}', "no JSON", *lines[3:]]), "utf-8")
    cuts = list(read_cuts(study.sets[0]))
    cuts[4].supervisions[0].text = "now go"
    write_cuts(cuts, study.shop.root / "corrected.jsonl")
    study.asked.clear()
    changed = {"train": [str(study.shop.root / "corrected.jsonl")]}
    assert study.fit(study.config("changed", data=changed)).code == 0
    assert study.asked == ["train-2", "train-4"]
    assert [row["id"] for row in read_rows(file).values()] == TRAIN


def test_texts_that_seem_wrong_lead_nothing(study: Study, seen: dict[str, torch.Tensor]) -> None:
    study.fits["train-3"] = -6.0
    outcome = study.fit(study.config("wrong"))
    assert outcome.code == 0
    assert "words of 5 of 6 utterances found" in outcome.err
    assert "without times: train-3: its text fits the recording badly" in outcome.err
    assert [name for name in TRAIN if seen[name].isnan().any()] == ["train-3"]


def test_without_it_batches_know_no_times(study: Study, seen: dict[str, torch.Tensor]) -> None:
    assert study.shop.fit(study.config("without")).code == 0
    assert (study.asked, seen) == ([], {})
    assert not (study.shop.root / "runs" / "without" / WORD_TIMES).exists()


def test_a_language_that_cannot_be_pronounced_is_refused(
    shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("espeakng_loader")
    cuts = [shop.cut(f"strange-{number}") for number in range(2)]
    for cut in cuts:
        cut.supervisions[0].language = "xyz"
    write_cuts(cuts, shop.root / "strange.jsonl")
    dev = shop.corpus("dev-strange", 2)
    config = shop.config("strange", shop.root / "strange.jsonl", dev)
    mistake = shop.fit(config, "--init_from", "universal").mistake
    assert "of 2 training utterances none can be placed (the first: strange-0: " in mistake
    assert "no voice for its language, 'xyz'" in mistake


@pytest.mark.parametrize("settings", [{"weight": 0.0}, {"warmup_steps": 0}])
def test_it_is_refused_where_nothing_would_be_led(study: Study, settings: dict) -> None:
    config = study.config("nothing", model={"tasks": {"align": settings}})
    mistake = study.fit(config).mistake
    assert "init_from is universal and model.tasks.align has weight" in mistake


def test_a_folder_of_that_name_is_a_bundle_when_given_as_a_path(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.shop.root)
    (study.shop.root / "universal").mkdir(exist_ok=True)
    mistake = study.shop.fit(study.config("path"), "--init_from", "./universal").mistake
    assert "universal" in mistake and "bundle" in mistake
    assert study.asked == []
    said = study.shop.fit(
        study.config("path", model={"lora": {"rank": 2}}), "--init_from=universal"
    )
    assert "the training starts from nothing" in said.mistake


def test_it_goes_with_an_encoder_of_others(make_whisper, tmp_path: Path) -> None:
    make_whisper(tmp_path / "whisper", ["go home"])
    pretrained = ["--model.pretrained", str(tmp_path / "whisper")]
    both = starting_defaults(["--init_from", "universal", *pretrained])
    assert both and both == starting_defaults(pretrained)
    assert starting_defaults(["--init_from=universal"]) == {}
    StartingPoint(folder=str(tmp_path / "whisper"), universal=True).check(LoraConfig(rank=2))


def test_a_config_may_say_it_and_the_run_folder_tells_it_from_none(study: Study) -> None:
    import yaml

    config = study.config("said")
    settings = yaml.safe_load(config.read_text("utf-8")) | {"init_from": "universal"}
    config.write_text(yaml.safe_dump(settings), "utf-8")
    assert study.shop.fit(config).code == 0
    again = study.shop.fit(config)
    assert "trained already with these settings and data" in again.err
    other = study.shop.fit(study.config("said"))
    assert other.code == 0 and "trained already" not in other.err


def test_spoken_words_are_found_by_the_aligner_that_ships(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    from random import Random

    from speechmm.data.corpora.synth.voices import Order, make_speaker, speak

    text = "good morning we open the window"
    speaker = make_speaker("en-gb", "paul", Random(0))
    spoken = speak(Order(id="a", text=text, speaker=speaker, path=tmp_path / "a.wav", seed="a"))
    cut = make_cut(id="a", audio=tmp_path / "a.wav", text=text, language="en")
    finder = WordFinder(train_tokenizer([text], kind="char"))
    for one in (cut, cut.perturb_speed(1.2)):
        stamp = finder.stamp(one)
        assert stamp == finder.stamp(cut)
        row = json.loads(json.dumps(finder.find(one, stamp)))
        errors = [
            abs(found - true)
            for (start, end), word in zip(row["words"], spoken.words, strict=True)
            for found, true in ((start, word.start), (end, word.end))
        ]
        assert sorted(errors)[len(errors) // 2] < 0.03
    assert finder.guessed([cut]) is None

"""Trainings that go on with Whisper's decoder: what is taken, how fast it learns, what is refused."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from speechmm.cli.main import main
from speechmm.models.bundle import load_bundle
from speechmm.models.pretrained.whisper_decoder import read_decoder
from speechmm.training.optimization import OptimizationConfig, learning_rates

pytestmark = pytest.mark.usefixtures("no_picture")

TEXTS = ["go home", "stop", "go on and stop", "home"]


class Study:
    """One training on a Whisper with its decoder."""

    def __init__(self, shop, make_whisper) -> None:
        self.shop = shop
        self.folder = shop.root / "whisper-with-decoder"
        make_whisper(self.folder, TEXTS)
        self.train, self.dev = shop.corpus("decoder-train", 6), shop.corpus("decoder-dev", 2)
        self.tokenizer = shop.root / "pieces.json"
        self.bundle = shop.root / "runs" / "decoder" / "bundle"

    def config(self, name: str, **model: object) -> Path:
        """Settings of a training; ``model`` goes to that section."""
        path = self.shop.config(name, self.train, self.dev)
        settings = yaml.safe_load(path.read_text("utf-8"))
        settings["data"]["tokenizer"] = str(self.tokenizer)
        del settings["model"]["network"]
        settings["model"] |= {
            "pretrained": str(self.folder),
            "pretrained_decoder": "en",
            "tasks": {"asr": {"ctc_weight": 0.0}},
            **model,
        }
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def study(shop, make_whisper) -> Study:
    made = Study(shop, make_whisper)
    arguments = [str(made.train), "--kind", "bpe", "--pieces-of", str(made.folder)]
    assert main(["tokenizer", *arguments, "--out", str(made.tokenizer)]) == 0
    frames = str(shop.root / "decoder-frames")
    config = made.config("decoder", freeze=["encoder"], frozen_frames=frames)
    outcome = shop.fit(config, "--model.optimization.encoder_rate", "1e-9")
    assert outcome.code == 0, outcome.err
    assert "decoder of " in outcome.err
    return made


def test_the_bundle_has_the_decoder(study: Study) -> None:
    bundle = load_bundle(study.bundle)
    assert bundle.heads == {"decoder", "align"}
    config, source = bundle.model.config, read_decoder(study.folder, "en")
    assert {name: getattr(config, name) for name in source.network} == source.network
    assert bundle.model.encoder.config.trailing_silence == 5.0
    theirs = load_file(study.folder / "model.safetensors")
    ours = bundle.model.decoder.stack
    for mine, name in (
        (ours.layers[1].feed_forward.up.weight, "layers.1.fc1.weight"),
        (ours.layers[0].cross_attention.query.bias, "layers.0.encoder_attn.q_proj.bias"),
        (ours.positions.weight, "embed_positions.weight"),
    ):  # it learned by a billionth of the rate
        torch.testing.assert_close(
            mine.detach(), theirs[f"model.decoder.{name}"], atol=1e-6, rtol=0
        )


def test_it_learns_as_the_encoder_does(study: Study) -> None:
    model = load_bundle(study.bundle).model
    settings = OptimizationConfig(learning_rate=0.01, encoder_rate=0.1)
    rates = learning_rates(model, settings)
    assert rates["heads.decoder.stack.layers.0.feed_forward.up.weight"] == pytest.approx(0.001)
    assert rates["heads.decoder.embedding.weight"] == pytest.approx(0.001)
    assert rates["encoder.layers.1.fc1.weight"] == pytest.approx(0.001)
    assert rates["heads.align.context_out.weight"] == pytest.approx(0.01)


def test_commands_search_by_the_heads_that_there_are(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study.shop.root / "decoder.jsonl"
    arguments = ["--model", str(study.bundle), "--no-speech-gate", "--beam", "2"]
    arguments += ["--format", "jsonl", "--out", str(out)]
    assert main(["transcribe", str(study.dev), *arguments]) == 0
    settings = json.loads(Path(f"{out}.meta.json").read_text())
    assert "attention" in json.dumps(settings)
    capsys.readouterr()
    assert main(["transcribe", str(study.dev), *arguments, "--decoder", "joint"]) == 2
    assert "ctc" in capsys.readouterr().err


def test_a_training_goes_on_from_the_bundle(study: Study) -> None:
    path = study.config("decoder-on")
    settings = yaml.safe_load(path.read_text("utf-8"))
    del settings["model"]["pretrained"], settings["model"]["pretrained_decoder"]
    settings["init_from"] = str(study.bundle)
    path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    outcome = study.shop.fit(path, "--model.freeze", "[encoder, heads.decoder]")
    assert outcome.code == 0, outcome.err
    first = load_bundle(study.bundle).model.state_dict()
    model = load_bundle(study.shop.root / "runs" / "decoder-on" / "bundle").model
    assert model.encoder.config.trailing_silence == 5.0
    again = model.state_dict()
    for name, value in first.items():
        if name.startswith("heads.decoder."):
            assert torch.equal(again[name], value), name


def test_low_rank_updates_reach_the_decoder(study: Study) -> None:
    path = study.config("decoder-lora", lora={"rank": 2})
    outcome = study.shop.fit(path)
    assert outcome.code == 0, outcome.err
    theirs = load_file(study.folder / "model.safetensors")
    bundle = load_bundle(study.shop.root / "runs" / "decoder-lora" / "bundle")
    stack = bundle.model.decoder.stack
    assert torch.equal(stack.positions.weight, theirs["model.decoder.embed_positions.weight"])
    changed = stack.layers[0].cross_attention.query.weight
    assert not torch.equal(changed, theirs["model.decoder.layers.0.encoder_attn.q_proj.weight"])


def test_what_does_not_go_together_is_refused_in_one_line(study: Study) -> None:
    for changes, message in (
        ({"pretrained_decoder": "xx"}, "pretrained_decoder is xx; expected a language"),
        ({"pretrained": None}, "there is no model.pretrained"),
        ({"own_layers": True}, "model.own_layers is true"),
        (
            {"pretrained": None, "pretrained_decoder": None, "trailing_silence": 1.0},
            "model.trailing_silence is 1.0 and there is no model.pretrained",
        ),
        ({"trailing_silence": 31.0}, "model.trailing_silence is 31.0 s, not 0 to 30.0"),
        ({"tasks": {"asr": {"ctc_weight": 1.0}}}, "no decoder is trained"),
    ):
        outcome = study.shop.fit(study.config("decoder-refused", **changes))
        assert message in outcome.mistake, changes


def test_import_names_the_decoder(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(study.folder)]) == 0
    shown = capsys.readouterr().out
    assert "decoder_layers: 2" in shown.splitlines()
    assert "decoder_languages: de en" in shown.splitlines()
    assert "--model.pretrained_decoder" in shown


def test_pieces_of_another_kind_are_refused(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tokenizer", str(study.train), "--out", str(tmp_path / "tokenizer.json")]
    assert main([*arguments, "--pieces-of", str(study.folder)]) == 2
    assert "--kind bpe" in capsys.readouterr().err
    assert main([*arguments, "--kind", "bpe", "--pieces-of", str(tmp_path)]) == 2
    assert "tokenizer.json" in capsys.readouterr().err

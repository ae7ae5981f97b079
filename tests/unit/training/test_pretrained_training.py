"""Trainings on encoders of others: bundles that transcribe and align without the original."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from speechmm.cli.main import main
from speechmm.models.bundle import load_bundle
from speechmm.models.pretrained.configs import Wav2Vec2Config, WhisperConfig
from speechmm.models.pretrained.description import EncoderInfo, build

pytestmark = pytest.mark.usefixtures("no_picture")

WHISPER = WhisperConfig(
    d_model=16,
    encoder_layers=2,
    encoder_attention_heads=2,
    encoder_ffn_dim=24,
    num_mel_bins=30,
    max_source_positions=60,
)
WAV2VEC2 = Wav2Vec2Config(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)
KINDS = {"whisper": ("whisper", WHISPER), "wav2vec2": ("wav2vec2", WAV2VEC2)}


def write_encoder(folder: Path, kind: str) -> Path:
    """A folder as transformers writes it, of random weights."""
    model_type, config = KINDS[kind]
    torch.manual_seed(3)
    encoder = build(EncoderInfo(kind=kind, config=config))
    prefix = "model.encoder." if kind == "whisper" else "wav2vec2."
    folder.mkdir()
    weights = {prefix + name: value for name, value in encoder.state_dict().items()}
    save_file(weights | {"proj_out.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    settings = {"model_type": model_type} | dataclasses.asdict(config)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


class Study:
    """One training on a pretrained encoder whose folder is gone afterwards."""

    def __init__(self, shop, kind: str) -> None:
        self.shop, self.kind = shop, kind
        self.folder = write_encoder(shop.root / kind, kind)
        self.weights = load_file(self.folder / "model.safetensors")
        self.train, self.dev = shop.corpus(f"{kind}-train", 6), shop.corpus(f"{kind}-dev", 2)
        self.config = shop.config(kind, self.train, self.dev, data={"speeds": [0.9, 1.0]})
        settings = yaml.safe_load(self.config.read_text("utf-8"))
        settings["model"]["network"] = {"decoder_layers": 1}
        settings["model"]["pretrained"] = str(self.folder)
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        self.bundle = shop.root / "runs" / kind / "bundle"


@pytest.fixture(scope="module", params=sorted(KINDS))
def study(shop, request: pytest.FixtureRequest) -> Study:
    made = Study(shop, request.param)
    outcome = shop.fit(made.config, "--model.freeze", '["encoder.*layers.0"]')
    assert outcome.code == 0, outcome.err
    assert "frozen: " in outcome.err
    shutil.move(made.folder, shop.root / f"{made.kind}-away")
    yield made
    shutil.move(shop.root / f"{made.kind}-away", made.folder)


def test_the_bundle_holds_the_encoder(study: Study) -> None:
    bundle = load_bundle(study.bundle)
    kind, config = KINDS[study.kind]
    settings = json.loads((study.bundle / "config.json").read_text())
    assert settings["encoder"]["kind"] == kind
    assert bundle.model.encoder.config == config
    assert bundle.model.config.d_model == 16
    assert bundle.model.subsampling == 2
    assert bundle.features.n_mels == (30 if kind == "whisper" else 80)
    prefix = "model.encoder." if kind == "whisper" else "wav2vec2."
    changed = {
        name
        for name, value in bundle.model.encoder.state_dict().items()
        if not torch.equal(value, study.weights[prefix + name])
    }
    learned = {name for name, one in bundle.model.encoder.named_parameters()}
    still = {name for name in learned if "layers.0" in name or name == "embed_positions.weight"}
    no_gradient = {name for name in learned if "k_proj.bias" in name}  # as softmax does not see it
    assert learned - still - no_gradient <= changed
    assert not changed & still


def test_the_bundle_transcribes_and_aligns_without_the_original(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = study.shop.root / "audio" / f"{study.kind}-dev-1.wav"
    out = study.shop.root / f"{study.kind}-out"
    assert (
        main(["transcribe", str(study.dev), "--model", str(study.bundle), "--no-speech-gate"]) == 0
    )
    text = study.shop.root / f"{study.kind}.txt"
    text.write_text("go home")
    arguments = ["align", str(audio), "--text", str(text), "--model", str(study.bundle)]
    assert main([*arguments, "--format", "jsonl", "--out", str(out)]) in (0, 3)
    row = json.loads(out.read_text().splitlines()[0])
    assert [word["label"] for word in row["units"]["word"]] == ["go", "home"]
    capsys.readouterr()
    assert main(["info", str(study.bundle)]) == 0
    assert f"encoder.kind: {study.kind}" in capsys.readouterr().out
    assert main(["transcribe", str(audio), "--model", str(study.bundle), "--quantize", "int8"]) == 0


def test_it_cannot_be_exported_and_says_so(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(study.bundle), str(study.shop.root / "onnx")]) == 2
    assert "it stands on a pretrained encoder" in capsys.readouterr().err


def test_the_next_training_starts_from_the_bundle(study: Study) -> None:
    settings = yaml.safe_load(study.config.read_text("utf-8"))
    del settings["model"]["pretrained"], settings["model"]["network"]
    settings["init_from"] = str(study.bundle)
    settings["model"]["freeze"] = ["encoder"]
    settings["trainer"]["default_root_dir"] = str(study.shop.root / "runs" / f"{study.kind}-2")
    config = study.shop.root / f"{study.kind}-2.yaml"
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    outcome = study.shop.fit(config)
    assert outcome.code == 0, outcome.err
    again = load_bundle(study.shop.root / "runs" / f"{study.kind}-2" / "bundle")
    first = load_bundle(study.bundle).model.encoder.state_dict()
    for name, value in again.model.encoder.state_dict().items():
        assert torch.equal(value, first[name]), name


@torch.no_grad()
def test_batches_change_nothing(study: Study) -> None:
    """Padded beside a longer one, an utterance has the encoding it has alone."""
    from speechmm.inference.engine.waveform_encoder import WaveformEncoder

    encoder = WaveformEncoder(load_bundle(study.bundle))
    long, short = torch.randn(20_000), 0.1 * torch.randn(9_000)
    both, alone = encoder.encode([long, short]), encoder.encode([short])
    frames = int(alone.enc_lengths[0])
    torch.testing.assert_close(
        both.encoded[1, :frames], alone.encoded[0, :frames], atol=1e-5, rtol=1e-4
    )


def test_settings_that_do_not_fit_are_refused_in_one_line(shop) -> None:
    train, dev = shop.corpus("refused-train", 3), shop.corpus("refused-dev", 1)
    for kind in KINDS:
        folder = write_encoder(shop.root / f"{kind}-refused", kind)
        path = shop.config(f"refused-{kind}", train, dev)
        settings = yaml.safe_load(path.read_text("utf-8"))
        settings["model"]["network"] = {"decoder_layers": 1}
        settings["model"]["pretrained"] = str(folder)
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        outcome = shop.fit(path, "--model.network.d_model", "32")
        assert "model.network.d_model is 32, but the pretrained encoder has 16" in outcome.mistake
        outcome = shop.fit(path, "--data.features.sample_rate", "8000")
        assert "data.features.sample_rate is 8000, but" in outcome.mistake
        outcome = shop.fit(path, "--init_from", folder)
        assert "expected one of them" in outcome.mistake
    outcome = shop.fit(path, "--model.pretrained", shop.root / "nowhere")
    assert "Give a folder with config.json and model.safetensors." in outcome.mistake
    wave = shop.root / "refused-wav2vec2.yaml"
    outcome = shop.fit(wave, "--model.augmentation.features.tempo", "0.1")
    assert "features.tempo is 0.1 and the encoder reads waveforms" in outcome.mistake
    outcome = shop.fit(wave, "--model.trailing_silence", "1")
    assert "holds a Wav2Vec2Encoder; expected Whisper's" in outcome.mistake


def test_import_names_what_it_found(
    shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_encoder(tmp_path / "encoder", "whisper")
    assert main(["import", str(folder)]) == 0
    shown = capsys.readouterr().out
    for line in (
        "kind: whisper",
        "layers: 2",
        "width: 16",
        "frame_seconds: 0.02",
        "unused_weights: 1",
    ):
        assert line in shown.splitlines()
    assert main(["import", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    encoder = build(EncoderInfo(kind="whisper", config=WHISPER))
    assert facts["parameters"] == sum(one.numel() for one in encoder.parameters())
    assert facts["reads"] == "log-mel features, 30 bands"
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert main(["import", str(folder)]) == 2
    assert "model_type is 'bert'" in capsys.readouterr().err


LOWER = {
    "whisper": ["encoder.conv1", "encoder.conv2", "encoder.layers.0"],
    "wav2vec2": [
        "encoder.feature_*",
        "encoder.encoder.pos_conv_embed",
        "encoder.encoder.layer_norm",
        "encoder.encoder.layers.0",
    ],
}
SAME_SOUND = {"spec_augment": {"time_masks": 0, "freq_masks": 0}, "features": {"gain_db": 0.0}}


class Frozen:
    """Trainings above the first layer of an encoder, whose frames are kept or not."""

    def __init__(self, shop, kind: str) -> None:
        self.shop, self.kind = shop, kind
        self.folder = write_encoder(shop.root / f"{kind}-frozen", kind)
        self.train, self.dev = shop.corpus(f"{kind}-f-train", 6), shop.corpus(f"{kind}-f-dev", 2)
        self.frames = shop.root / f"{kind}-frames"

    def fit(self, name: str, *arguments: object, **model: object):
        name = f"{self.kind}-{name}"
        data, trainer = {"speeds": [0.9, 1.0]}, {"max_epochs": 2}
        path = self.shop.config(name, self.train, self.dev, data=data, trainer=trainer, model=model)
        settings = yaml.safe_load(path.read_text("utf-8"))
        settings["model"] |= {
            "network": {"decoder_layers": 1},
            "pretrained": str(self.folder),
            "freeze": LOWER[self.kind],
        }
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        return self.shop.fit(path, *arguments)

    def run(self, name: str) -> Path:
        return self.shop.root / "runs" / f"{self.kind}-{name}"

    def metrics(self, name: str) -> list[dict[str, str]]:
        lines = (self.run(name) / "metrics.csv").read_text().splitlines()
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module", params=sorted(KINDS))
def frozen(shop, request: pytest.FixtureRequest) -> Frozen:
    return Frozen(shop, request.param)


def test_kept_frames_give_the_same_losses(frozen: Frozen) -> None:
    assert frozen.fit("plain", augmentation=SAME_SOUND).code == 0
    kept = {"augmentation": SAME_SOUND, "frozen_frames": str(frozen.frames)}
    outcome = frozen.fit("kept", **kept)
    assert outcome.code == 0, outcome.err
    assert "frozen_frames: 1 layers of 14 utterances computed" in outcome.err
    (folder,) = frozen.frames.iterdir()
    assert json.loads((folder / "frames.json").read_text())["layers"] == 1
    files = sorted(folder.rglob("*.npy"))
    assert len(files) == 14  # six at two speeds, and two
    assert np.load(files[0]).dtype == np.float16
    rows = zip(frozen.metrics("plain"), frozen.metrics("kept"), strict=True)
    for one, other in rows:
        for name in one:
            if "loss" in name and one[name]:
                assert float(other[name]) == pytest.approx(float(one[name]), rel=3e-3), name
    # the bundle is whole: it reads sound, not frames
    for part in ("plain", "kept"):
        learned = load_file(frozen.run(part) / "bundle" / "model.safetensors")
        assert torch.isfinite(torch.cat([one.flatten().float() for one in learned.values()])).all()


def test_weights_in_16_bits_learn_above_an_encoder_of_others(frozen: Frozen) -> None:
    in_16_bits = ("--trainer.precision", "bf16-true")
    runs = {"whole": {}, "kept": {"frozen_frames": f"{frozen.frames}-16"}}
    for name, kept in runs.items():
        outcome = frozen.fit(f"bf16-{name}", *in_16_bits, augmentation=SAME_SOUND, **kept)
        assert outcome.code == 0, outcome.err
    rows = zip(*(frozen.metrics(f"bf16-{name}") for name in runs), strict=True)
    for one, other in rows:
        for name in one:
            if "loss" in name and one[name]:
                assert float(other[name]) == pytest.approx(float(one[name]), rel=0.02), name


def test_they_are_computed_once_and_a_stopped_training_goes_on(
    frozen: Frozen, each_batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"frozen_frames": str(frozen.frames)}
    assert frozen.fit("through", **model).code == 0

    def stop(epoch: int, index: int, ids: list[str]) -> None:
        if (epoch, index) == (1, 1):
            raise KeyboardInterrupt

    (folder,) = frozen.frames.iterdir()
    first = sorted(folder.rglob("*.npy"))[0]
    first.unlink()  # as if the computing had been cut short
    each_batch(stop)
    outcome = frozen.fit("stopped", **model)
    assert outcome.code == 130
    assert "frozen_frames: 1 layers of 1 utterances computed" in outcome.err
    assert first.is_file()
    each_batch(lambda *_: None)
    outcome = frozen.fit("stopped", "--ckpt_path", "last", **model)
    assert outcome.code == 0, outcome.err
    assert "of 0 utterances computed" in outcome.err
    weights = [
        load_file(frozen.run(one) / "bundle/model.safetensors") for one in ("through", "stopped")
    ]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_what_cannot_be_kept_is_refused_in_one_line(frozen: Frozen) -> None:
    kept = {"frozen_frames": str(frozen.frames)}
    outcome = frozen.fit("a", augmentation={"features": {"vtlp": 0.1}}, **kept)
    assert "features.vtlp is 0.1 and model.frozen_frames" in outcome.mistake
    for more in (["--model.freeze", '["heads.ctc"]'], ["--model.thaw_at", "[3]"]):
        outcome = frozen.fit("b", *more, **kept)
        assert outcome.code == 2
        (said,) = [line for line in outcome.err.splitlines() if line.startswith("speechmm fit: ")]
        assert "the first layer of the encoder, or what is below it, learns" in said
    half = frozen.fit("d", "--model.tasks.asr.intermediate_weight", "0.3", **kept)
    assert half.code == 0, half.err  # read half-way up: above the first of two layers


def test_layers_of_our_own_stand_on_frames_that_are_kept(
    frozen: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    network = {"d_model": 8, "heads": 2, "ff_dim": 8, "encoder_layers": 2, "decoder_layers": 1}
    own = {"own_layers": True, "frozen_frames": str(frozen.frames)}
    flags = ["--model.freeze", "[encoder.lower]", "--model.tasks.asr.intermediate_weight", "0.3"]
    flags += [f"--model.network.{name}={value}" for name, value in network.items()]
    if frozen.kind == "whisper":
        flags += ["--model.trailing_silence", "0.1"]
    outcome = frozen.fit("own", *flags, **own)
    assert outcome.code == 0, outcome.err
    assert "frozen_frames: 2 layers of 14 utterances computed" in outcome.err
    bundle = load_bundle(frozen.run("own") / "bundle")
    encoder = bundle.model.encoder
    assert (encoder.width, encoder.subsampling) == (8, 4)
    assert bundle.model.masked_subsampling == 2  # of the frames below, which masks are put on
    assert getattr(encoder, "reads_silence", False) == (frozen.kind == "whisper")
    prefix = "model.encoder." if frozen.kind == "whisper" else "wav2vec2."
    given = load_file(frozen.folder / "model.safetensors")
    for name, value in encoder.lower.state_dict().items():
        assert torch.equal(value, given[prefix + name]), name
    again = frozen.fit(
        "own-on",
        "--model.pretrained",
        "null",
        "--init_from",
        frozen.run("own") / "bundle",
        *flags[:2],
        own_layers=True,
    )
    assert again.code == 0, again.err  # as people go on with the recipes' finetune.yaml
    assert load_bundle(frozen.run("own-on") / "bundle").model.encoder.width == 8
    audio = frozen.shop.root / "audio" / f"{frozen.kind}-f-dev-1.wav"
    command = ["transcribe", str(audio), "--model", str(frozen.run("own") / "bundle")]
    assert main([*command, "--no-speech-gate"]) == 0
    capsys.readouterr()
    no_layers = frozen.fit("own-no", "--model.own_layers", "true", "--model.pretrained", "null")
    assert "there is no encoder below them" in no_layers.mistake

"""Makes what newer tasks are attacked with: languages, a learned aligner, archives, values of flags."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fuzzing.voice_world import small_network

LEARNING: dict[str, Any] = {
    "batch_frames": 600, "start_epochs": 2, "leading_epochs": 1, "rounds": 1, "round_epochs": 2,
    "members": 1, "member_epochs": 2, "steps_at_least": 10,
}  # fmt: skip
"""Settings of an aligner that learns next to nothing, in a second."""
VALUES = {
    "number": ("0", "0.02", "1", "7", "1e0"),
    "language": ("de", "en", "EN", "en-us", "de_AT", "fr"),
    "lexicon": (
        "go ɡ oʊ\nhome h oʊ m\ncall k ɔː l\neight eɪ t\nnow n aʊ\nplease p l iː z\n",
        ";;; of English\nGO  G OW1\nHOME  HH OW1 M\nHOME(2)  OW1 M\nCALL  K AO1 L\nEIGHT  EY1 T\n",
    ),
    "learning": (
        "rounds: 0\nstart_epochs: 1\nmembers: 1\nmember_epochs: 1\nsteps_at_least: 2\nwidth: 8\n",
        "rounds: 0\nstart_epochs: 1\nmembers: 1\nmember_epochs: 1\nsteps_at_least: 2\nmost_frames: 300\n"
        "noise_reverb: {noise_share: 0.5}\nfeatures: {n_mels: 40, hop_length: 160}\n",
    ),
}
"""Of flags, by the name of a folder with a file for each."""


def make_tasks(root: Path) -> None:
    """Everything, from what :func:`fuzzing.world.make_world` has made before."""
    for name, values in VALUES.items():
        (root / f"values-{name}").mkdir()
        for number, value in enumerate(values):
            (root / f"values-{name}" / f"{number}.txt").write_text(value, "utf-8")
    _make_translations(root)
    _make_languages(root / "languages", root / "char.json")
    _make_aligner(root)
    _make_encoder(root / "encoder")
    _make_configs(root)


def learn_quickly() -> None:
    """From now on ``align --learn`` of this process takes a second."""
    from speechmm.training import aligner_settings

    aligner_settings.DEFAULTS = replace(aligner_settings.DEFAULTS, **LEARNING)


def _make_translations(root: Path) -> None:
    """A corpus in two languages with translations: as a table, prepared, and in archives."""
    from fuzzing.world import run

    table = root / "corpora" / "translated"
    shutil.copytree(root / "corpora" / "table" / "wavs", table / "wavs")
    names = sorted(path.name for path in (table / "wavs").iterdir())
    texts = ("go home", "call eight", "now please")
    rows = [
        f"wavs/{name}\t{texts[place % 3]}\t{('en', 'de')[place % 2]}\t{texts[(place + 1) % 3]}\n"
        for place, name in enumerate(names)
    ]
    head = "path\tsentence\tlanguage\ttranslation\n"
    (table / "train.tsv").write_text(head + "".join(rows), "utf-8")
    into = ("--translation-language", "fr", "--dev", 0.2, "--test", 0.2, "--shar", 2)
    run("prepare", "folder", table, root / "translated", *into)


def _make_languages(bundle: Path, tokenizer_file: Path) -> None:
    """A bundle that was asked in two languages and for French; nothing is trained."""
    import torch

    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.data.translated import Languages
    from speechmm.models.bundle import save_bundle
    from speechmm.models.speech_text import SpeechTextModel
    from speechmm.text.tokenizer import Tokenizer
    from speechmm.training.tasks import Asr, TasksConfig, Translate

    torch.manual_seed(0)
    tasks = TasksConfig(asr=Asr(language_tags=True), translate=Translate(weight=1.0))
    tokenizer = Tokenizer.load(tokenizer_file)
    model = SpeechTextModel(
        small_network(),
        vocab_size=tokenizer.vocab_size,
        n_mels=80,
        align_vocab_size=tokenizer.align_vocab_size,
        heads=tasks.heads,
        tags=tasks.tags_in(Languages(("de", "en"), ("fr",))),
    )
    save_bundle(bundle, model, tokenizer, LogMelConfig())


def _make_aligner(root: Path) -> None:
    """An aligner that learned from the corpus, and what it says."""
    from fuzzing.world import run

    learn_quickly()
    out = ("--format", "jsonl", "--out", root / "out" / "learned.jsonl")
    run("align", root / "corpora" / "folder", "--learn", "--save", root / "aligner", *out)


def _make_encoder(folder: Path) -> None:
    """An encoder as others write it, of random weights."""
    from dataclasses import asdict

    from safetensors.torch import save_file

    from speechmm.models.pretrained.configs import WhisperConfig
    from speechmm.models.pretrained.description import EncoderInfo, build

    config = WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, num_mel_bins=30,
        max_source_positions=60,
    )  # fmt: skip
    encoder: Any = build(EncoderInfo(kind="whisper", config=config))
    folder.mkdir()
    weights = {f"model.encoder.{name}": value for name, value in encoder.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    settings = {"model_type": "whisper", **asdict(config)}
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")


def _make_configs(root: Path) -> None:
    """Trainings of each task beside recognition, from the config of the plainest one."""
    plain: dict[str, Any] = yaml.safe_load((root / "joint.yaml").read_text("utf-8"))
    train = str(root / "data" / "train.jsonl.gz")
    translated = str(root / "translated" / "train.jsonl.gz")
    tts = {"weight": 1.0, "mel_layers": 1, "token_layers": 1, "share": 0.5}
    mix = [{"name": "old", "manifests": [train], "share": 0.5, "synthetic": True}]
    variants: dict[str, dict[str, Any]] = {
        "mixed": {"data": {"train": [train], "mix": mix}},
        "text": {
            "data": {"train": [train], "text": [str(root / "texts" / "lines.txt")]},
            "tasks": {"text": {"weight": 0.5}, "match": {"weight": 0.5}},
        },
        "voice": {"data": {"train": [train]}, "tasks": {"tts": tts}},
        "translate": {
            "data": {"train": [translated]},
            "tasks": {"asr": {"language_tags": True}, "translate": {"weight": 1.0}},
        },
        "distil": {
            "data": {"train": [train]},
            "tasks": {"distillation": {"teacher": str(root / "bundle")}},
        },
        "frozen": {
            "data": {"train": [train]},
            "init_from": str(root / "bundle"),
            "model": {"freeze": ["encoder"], "frozen_frames": "frames"},
        },
    }
    (root / "configs").mkdir()
    for name, changes in variants.items():
        config = json.loads(json.dumps(plain))
        config["data"] |= changes.get("data", {})
        config["model"]["tasks"] |= changes.get("tasks", {})
        config["model"] |= changes.get("model", {})
        config |= {key: changes[key] for key in ("init_from",) if key in changes}
        if name == "frozen":
            del config["model"]["network"], config["model"]["augmentation"]
        (root / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(config), "utf-8")

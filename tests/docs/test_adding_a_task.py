"""The toy task of docs/adding-a-task.md, added as the page says: in one file, by a config."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml

from speechmm.data.manifest import make_cut, write_cuts
from speechmm.models.bundle import load_bundle
from speechmm.text.tokenizer_training import train_tokenizer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-task.md"
RATE = 16_000


def block(language: str) -> str:
    """The only block of code of this language on the page."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return found


def write_corpus(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for name, texts in {"train": ["one two", "three", "four five six"], "dev": ["two"]}.items():
        cuts = []
        for index, text in enumerate(texts):
            audio = folder / f"{name}-{index}.wav"
            soundfile.write(audio, generator.normal(0, 0.1, RATE).astype("float32"), RATE)
            cuts.append(make_cut(id=audio.stem, audio=audio, text=text))
        write_cuts(cuts, folder / f"{name}.jsonl")
    train_tokenizer(["one two three four five six"], kind="char").save(folder / "tokenizer.json")


def test_the_page_works_word_by_word(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (tmp_path / "my_tasks.py").write_text(block("python"), encoding="utf-8")
    settings = yaml.safe_load(block("yaml"))
    settings["model"]["network"] = {
        "d_model": 16,
        "heads": 2,
        "ff_dim": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "front_channels": 4,
    }
    settings["data"] = {
        "train": ["train.jsonl"],
        "dev": ["dev.jsonl"],
        "tokenizer": "tokenizer.json",
        "num_workers": 0,
    }
    settings["trainer"] = {"accelerator": "cpu", "max_epochs": 3, "default_root_dir": "run"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (command,) = re.findall(r"^\$ PYTHONPATH=\. speechmm (.*)$", block("console"), re.MULTILINE)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "speechmm", *command.split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rate off by" in done.stderr

    with (tmp_path / "run" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    losses = [float(row["train/loss_speaking_rate"]) for row in rows if row["train/loss"]]
    assert losses[-1] < losses[0]
    assert any(row["val/rate_error"] for row in rows)

    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert "network.heads.speaking_rate.weight" in checkpoint["state_dict"]
    assert checkpoint["speechmm"]["tasks"]["speaking_rate"] == {"weight": 0.1}
    assert load_bundle(tmp_path / "run" / "bundle").heads == {"ctc", "decoder", "align"}

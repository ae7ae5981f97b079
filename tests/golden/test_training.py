"""Golden numbers of training and reading: twenty seeded steps, then a beam search and an alignment.

A change that is only a move or a rewriting keeps them to the last digit on one machine; see
``--exact-golden``. Between machines the sums of a matrix product differ, and twenty steps let
such differences grow, so the tolerance of the ordinary run is wider.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from lhotse.supervision import AlignmentItem

import speechmm
from speechmm.cli.main import main
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.text.tokenizer_training import train_tokenizer

RATE = 16_000
SPEAKERS = ("p", "q")
TEXTS = ("ab cad", "bad cab", "dab ac", "cab dad", "ab bad ac", "dad", "a cad ab", "bac da")
LETTER_SECONDS, PAUSE_SECONDS = 0.12, 0.15
EPOCHS, STEPS_AN_EPOCH = 10, 2

NETWORK = {
    "d_model": 16,
    "heads": 2,
    "ff_dim": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "front_channels": 8,
    "align_dim": 16,
    "conv_kernel": 5,
}
LINES = "dad bac\ncab\nab ab dad\nbad cad ac\n"
VARIANTS: dict[str, dict[str, Any]] = {
    "guided": {
        "network": {**NETWORK, "utterance_cmn": True},
        "tasks": {
            "asr": {"ctc_weight": 0.4, "intermediate_weight": 0.3},
            "align": {"warmup_steps": 10},
            "guided_attention": {"weight": 0.3},
        },
        "augmentation": {
            "recombination": {"share": 0.7, "after_epochs": 3},
            "concatenation": {"share": 0.3, "max_utterances": 3},
            "features": {"vtlp": 0.1, "tempo": 0.1},
            "noise_reverb": {"noise_share": 0.5, "reverb_share": 0.5},
        },
        "optimization": {"learning_rate": 0.01, "warmup_steps": 4, "ema_decay": 0.9},
    },
    "consistent": {
        "network": {**NETWORK, "middle_stride": 2, "attention_window": 6},
        "tasks": {
            "asr": {"consistency_weight": 0.2},
            "align": {"weight": 0.5, "warmup_steps": 10},
        },
        "augmentation": {"spec_augment": {"time_mask_multiplicity": 0.02}},
        "optimization": {
            "optimizer": "soap",
            "learning_rate": 0.01,
            "warmup_steps": 4,
            "ema_decay": 0.9,
        },
    },
    "unpaired": {
        "network": NETWORK,
        "tasks": {
            "align": {"warmup_steps": 10},
            "text": {"weight": 0.5, "mask_tokens": 2, "after_steps": 3},
            "match": {"weight": 0.5},
        },
        "optimization": {"learning_rate": 0.01, "warmup_steps": 4, "ema_decay": 0.9},
    },
}


def say(text: str, speaker: str, seed: int) -> tuple[np.ndarray, list[AlignmentItem]]:
    """A tone for each letter, higher for the second speaker, over soft noise; and its words' times."""
    noise = np.random.default_rng(seed)
    parts, words, now = [np.zeros(round(PAUSE_SECONDS * RATE))], [], PAUSE_SECONDS
    for word in text.split():
        start = now
        for letter in word:
            time = np.arange(round(LETTER_SECONDS * RATE)) / RATE
            pitch = 300.0 * 1.6 ** "abcd".index(letter) * (1.0 + 0.1 * SPEAKERS.index(speaker))
            parts.append(0.3 * np.sin(2 * np.pi * pitch * time))
            now += LETTER_SECONDS
        words.append(
            AlignmentItem(symbol=word, start=round(start, 3), duration=round(now - start, 3))
        )
        parts.append(np.zeros(round(PAUSE_SECONDS * RATE)))
        now += PAUSE_SECONDS
    samples = np.concatenate(parts)
    return samples + 0.003 * noise.standard_normal(len(samples)), words


def write_corpus(folder: Path, name: str, texts: tuple[str, ...]) -> Path:
    cuts = []
    for index, text in enumerate(texts):
        speaker = SPEAKERS[index % 2]
        samples, words = say(text, speaker, index)
        audio = folder / f"{name}-{index}.wav"
        soundfile.write(audio, samples.astype("float32"), RATE)
        cuts.append(
            make_cut(
                id=audio.stem, audio=audio, text=text, speaker=speaker, alignment={"word": words}
            )
        )
    manifest = folder / f"{name}.jsonl"
    write_cuts(cuts, manifest)
    return manifest


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    train_tokenizer(TEXTS, kind="char").save(folder / "tokenizer.json")
    (folder / "lines.txt").write_text(LINES, encoding="utf-8")
    write_corpus(folder, "train", TEXTS)
    write_corpus(folder, "dev", TEXTS[::-1][:3])
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechmm.training.callbacks.curves.draw_curves", lambda *_: None)
        yield
    torch.set_num_threads(before)


def fit(corpus: Path, variant: str) -> Path:
    """Trains a variant in this process; its run folder."""
    run = corpus / variant
    settings = {
        "data": {
            "train": [str(corpus / "train.jsonl")],
            "dev": [str(corpus / "dev.jsonl")],
            "tokenizer": str(corpus / "tokenizer.json"),
            "batch_seconds": 7.0,
            "num_workers": 0,
        },
        "model": VARIANTS[variant],
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "default_root_dir": str(run),
            "max_epochs": EPOCHS,
            "limit_train_batches": STEPS_AN_EPOCH,
        },
    }
    if "text" in VARIANTS[variant]["tasks"]:
        settings["data"]["text"] = [str(corpus / "lines.txt")]
    config = corpus / f"{variant}.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["fit", "--config", str(config), "--seed_everything", "3"]) == 0
    return run


def logged(run: Path) -> dict[str, float]:
    """Every number of ``metrics.csv``, by its name and step."""
    with (run / "metrics.csv").open(newline="") as stream:
        return {
            f"{row['step']} {name}": float(value)
            for row in csv.DictReader(stream)
            for name, value in row.items()
            if value and name not in ("step", "epoch")
        }


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_and_reading(variant: str, corpus: Path, check_golden) -> None:
    run = fit(corpus, variant)
    numbers = logged(run)
    steps = {int(key.split()[0]) for key in numbers}
    assert max(steps) == EPOCHS * STEPS_AN_EPOCH - 1
    check_golden(f"training_{variant}", numbers, rel=0.02, abs=0.02)

    from speechmm.inference.recognition.options import SearchOptions

    model = speechmm.load(run / "bundle")
    options = SearchOptions(beam=4, n_best=3, speech_gate=False)  # it has learnt too little
    read: dict[str, float] = {}
    for audio in sorted(corpus.glob("dev-*.wav")):
        transcript = model.transcribe(audio, options=options)
        for rank, other in enumerate(transcript.alternatives):
            read[f"{audio.stem} search {rank} {other.text}"] = other.score
        aligned = model.align(audio, TEXTS[::-1][int(audio.stem[-1])])
        read[f"{audio.stem} confidence"] = float(aligned.confidence or 0.0)
        for index, word in enumerate(aligned.words):
            read[f"{audio.stem} word {index} start"] = word.start
            read[f"{audio.stem} word {index} end"] = word.end
    check_golden(f"reading_{variant}", read, rel=0.02, abs=0.02)

"""Times the start of a training on a large made-up corpus: from the command to its first step.

    python tools/large_start.py FOLDER [--cuts 100000] [--any.key VALUE ...]

The corpus is a few hundred files of noise under as many names as there are cuts (hard links, so it
takes little disk), with made-up texts. It is left in FOLDER and used again. Other flags are those of
"speechmm fit".
"""

from __future__ import annotations

import argparse
import os
import random
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut

from speechmm.audio.io import audio_info
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.text.tokenizer_training import train_tokenizer

FILES = 300
RATE = 16_000
WORDS_A_SECOND = 1.5
SETTINGS = {
    "data.batch_seconds": "60",
    "data.num_workers": "0",
    "model.network.d_model": "32",
    "model.network.heads": "2",
    "model.network.ff_dim": "64",
    "model.network.encoder_layers": "2",
    "model.network.decoder_layers": "1",
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": "1",
}
"""A model so small that its making does not count."""
UNTIL_FIRST_STEP = """
import os, resource, sys
from speechmm.cli.main import main
from speechmm.training.module import JointModule

def first_step(*arguments):
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
    os._exit(0)

JointModule.on_train_batch_start = first_step
sys.exit(main(sys.argv[1:]))
"""
"""A training that ends when its first batch is there, and says what memory it took (MB)."""


def make_corpus(folder: Path, count: int) -> None:
    """Writes ``train.jsonl.gz``, ``dev.jsonl.gz`` and ``tokenizer.json``, with the audio they need."""
    source = random.Random(0)
    words = [
        "".join(source.choices(string.ascii_lowercase, k=source.randint(2, 9))) for _ in range(5000)
    ]
    cuts = list(_cuts(folder, count, words, source))
    write_cuts(cuts, folder / "train.jsonl.gz")
    write_cuts(cuts[:FILES], folder / "dev.jsonl.gz")
    train_tokenizer([" ".join(words)], kind="char").save(folder / "tokenizer.json")


def _cuts(
    folder: Path, count: int, words: Sequence[str], source: random.Random
) -> Iterator[MonoCut]:
    noise = np.random.default_rng(0)
    for index in range(count):
        path = folder / "audio" / f"{index // 1000:05d}" / f"{index:08d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        original = folder / "audio" / "00000" / f"{index % FILES:08d}.flac"
        path.unlink(missing_ok=True)
        if path == original:
            samples = noise.normal(0, 0.1, round(RATE * source.uniform(2, 12)))
            soundfile.write(path, samples.clip(-1, 1), RATE)
        else:
            path.hardlink_to(original)
        info = replace(audio_info(original), path=path)
        said = source.choices(words, k=max(1, int(WORDS_A_SECOND * info.duration)))
        yield make_cut(
            id=f"utt-{index:08d}",
            audio=path,
            text=" ".join(said),
            speaker=f"speaker {index % 1000}",
            info=info,
        )


def time_start(folder: Path, flags: Sequence[str]) -> tuple[float, int]:
    """Seconds to the first step, and megabytes at most until then."""
    settings = {
        "data.train": f'["{folder}/train.jsonl.gz"]',
        "data.dev": f'["{folder}/dev.jsonl.gz"]',
        "data.tokenizer": str(folder / "tokenizer.json"),
        "trainer.default_root_dir": str(folder / "run"),
        **SETTINGS,
    }
    given = [word for name, value in settings.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-c", UNTIL_FIRST_STEP, "fit", *given, *flags]
    began = time.perf_counter()
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - began, int(ended.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the corpus where there is none, and times one start."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for corpus and run folder")
    parser.add_argument("--cuts", type=int, default=100_000, help="utterances of the corpus")
    arguments, flags = parser.parse_known_args(argv)
    folder = arguments.folder.absolute() / str(arguments.cuts)
    if not (folder / "tokenizer.json").is_file():  # written last
        make_corpus(folder, arguments.cuts)
    before = os.times()
    seconds, megabytes = time_start(folder, flags)
    after = os.times()
    processor = (
        after.children_user - before.children_user + after.children_system - before.children_system
    )
    print(
        f"{arguments.cuts} cuts: {seconds:.1f} s to the first step, {processor:.1f} s of them on "
        f"processors, {megabytes} MB"
    )


if __name__ == "__main__":
    main()

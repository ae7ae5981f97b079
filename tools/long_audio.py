"""Measures whether the end of a long recording is transcribed and aligned as well as its start.

    python tools/long_audio.py data/test.jsonl.gz BUNDLE [--hours 1] [--out DIR] [--threads 2]

Utterances of a manifest are joined, in random order and again and again, with pauses of 0.3 to 1.2 s,
to one recording with one text; the pauses have the noise of the utterance before. ``speechmm
transcribe`` and ``speechmm align`` run on it, each in a process of its own. Printed and written as
JSON: seconds, peak memory, word errors beside those of the same utterances one by one, and where the
manifest knows when words are said, the errors of word edges in each tenth of the recording, beside
those of the utterances one by one.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import MonoCut

from speechmm.alignments import read_alignments
from speechmm.data.manifest import cut_text, make_cut, read_cuts, reference_alignment, write_cuts
from speechmm.data.waveforms import load_waveform
from speechmm.evaluation.error_rate import score_texts

RATE = 16_000
PAUSES = (0.3, 1.2)  # seconds
PARTS = 10
REPORT_MEMORY = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Joins, transcribes, aligns, compares."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("cuts", type=Path, help="manifest of utterances with texts")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("long-audio"))
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    pieces, edges = join(arguments)
    single = arguments.out / "single.jsonl"
    write_cuts(
        [make_cut(id=f"piece-{i}", audio=a, text=t) for i, (a, t) in enumerate(pieces)], single
    )
    seconds = soundfile.info(arguments.out / "long.wav").duration
    found: dict[str, Any] = {"hours": seconds / 3600, "utterances": len(pieces)}
    reference = " ".join(text for _, text in pieces)
    for name, source in (("long", arguments.out / "long.wav"), ("one by one", single)):
        found[f"transcribe {name}"] = transcribe(arguments, name, source, reference)
    found["align long"] = align(arguments, reference, edges)
    (arguments.out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))


def join(arguments: argparse.Namespace) -> tuple[list[tuple[Path, str]], np.ndarray]:
    """Writes the recording; returns each utterance in turn, and (words, 2) edges in seconds."""
    draw = random.Random(arguments.seed)
    cuts = [cut for cut in read_cuts(arguments.cuts) if cut_text(cut).strip()]
    total, place, edges = round(arguments.hours * 3600 * RATE), 0, []
    pieces: list[tuple[Path, str]] = []
    files: dict[str, tuple[Path, np.ndarray]] = {}
    with soundfile.SoundFile(arguments.out / "long.wav", "w", RATE, 1) as out:
        order: list[MonoCut] = []
        while place < total:
            if not order:
                order = draw.sample(cuts, len(cuts))
            cut = order.pop()
            if cut.id not in files:
                path = arguments.out / "pieces" / f"{len(files)}.wav"
                path.parent.mkdir(exist_ok=True)
                files[cut.id] = path, load_waveform(cut, RATE).numpy()
                soundfile.write(path, files[cut.id][1], RATE)
            path, samples = files[cut.id]
            known = reference_alignment(cut)
            if known is not None:
                edges += [
                    (place / RATE + word.start, place / RATE + word.end) for word in known.words
                ]
            pieces.append((path, cut_text(cut)))
            pause = pause_after(samples, round(draw.uniform(*PAUSES) * RATE), draw.randrange(2**32))
            for part in (samples, pause):
                out.write(part)
                place += len(part)
    return pieces, np.array(edges)


def pause_after(samples: np.ndarray, length: int, seed: int) -> np.ndarray:
    """A pause as the utterance before it would go on: noise as loud as its quietest 50 ms."""
    step = RATE // 20
    whole = samples[: len(samples) // step * step].reshape(-1, step)
    level = float(np.sqrt((whole**2).mean(axis=1)).min()) if len(whole) else 0.0
    noise = np.random.default_rng(seed).standard_normal(length)
    return (level * noise).astype(np.float32)


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (GiB) of a command; 3 says that something was flagged."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", REPORT_MEMORY, sys.executable, "-m", "speechmm", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 3):
        raise SystemExit(ended.stderr)
    return time.perf_counter() - begin, int(ended.stderr.split()[-1]) / 2**20


def transcribe(
    arguments: argparse.Namespace, name: str, source: Path, reference: str
) -> dict[str, float]:
    """Word errors of one way to transcribe all of it."""
    out = arguments.out / f"{name.replace(' ', '-')}.txt"
    common = ["--model", str(arguments.bundle), "--threads", str(arguments.threads)]
    seconds, memory = run(
        ["transcribe", str(source), *common, "--decoder", "ctc", "--out", str(out)]
    )
    (one,) = score_texts([reference], [" ".join(out.read_text("utf-8").split())])
    return {
        "seconds": round(seconds, 1),
        "peak_gib": round(memory, 2),
        "errors": one.counts.errors,
        "words": one.counts.reference_words,
        "wer": one.counts.errors / one.counts.reference_words,
    }


def align(arguments: argparse.Namespace, text: str, edges: np.ndarray) -> dict[str, Any]:
    """Errors of word edges, tenth by tenth."""
    (arguments.out / "long.txt").write_text(text + "\n", "utf-8")
    out = arguments.out / "aligned.jsonl"
    command = ["align", arguments.out / "long.wav", "--text", arguments.out / "long.txt"]
    command += ["--model", arguments.bundle, "--threads", arguments.threads]
    command += ["--format", "jsonl", "--out", out]
    seconds, memory = run([str(word) for word in command])
    found: dict[str, Any] = {"seconds": round(seconds, 1), "peak_gib": round(memory, 2)}
    (alignment,) = read_alignments(out)
    if len(edges) == len(alignment.words):
        placed = np.array([(word.start, word.end) for word in alignment.words])
        error = 1000 * np.abs(placed - edges).ravel()
        found["mean_ms"] = round(float(error.mean()), 2)
        tenths = np.array_split(error, PARTS)
        found["mean_ms_by_tenth"] = [round(float(part.mean()), 2) for part in tenths]
        found["beyond_200_ms"] = int((error > 200).sum())
        found["edges"] = len(error)
    return found


if __name__ == "__main__":
    main()

"""Measures speed and memory on made-up audio and writes JSON: medians and spread of every case.

    python tools/benchmark.py [--cases train,beam] [--size tiny|small] [--threads 2] [--out FILE]

Compare runs of one machine only, taken in turn: absolute times drift where machines are shared.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.batch import Batch
from speechmm.inference.alignment.token_path import find_paths
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.speech_text import SpeechTextConfig, SpeechTextModel
from speechmm.models.weight_layout import to_column_major
from speechmm.text.tokenizer import SIL, AlignedTokens
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.tasks import Align, Asr, Step, TasksConfig, sum_losses

SIZES = {
    "tiny": SpeechTextConfig(d_model=128, ff_dim=512, encoder_layers=4, decoder_layers=2),
    "small": SpeechTextConfig(d_model=256, ff_dim=1024, encoder_layers=8, decoder_layers=3),
}
VOCAB = 33
UTTERANCES, SECONDS, TOKENS_A_SECOND = 10, 3.0, 12
"""One batch: 30 s of audio in utterances of equal length."""

Case = tuple[float | None, Callable[[], object]]
"""Audio seconds, where there is audio, and what is timed."""


def batch_of_speech() -> Batch:
    """Random features and texts of the size real ones have."""
    torch.manual_seed(0)
    frames, tokens = int(100 * SECONDS), int(TOKENS_A_SECOND * SECONDS)
    aligned = torch.randint(SIL + 2, VOCAB, (UTTERANCES, tokens))
    aligned[:, ::6] = SIL
    return Batch(
        ids=[str(row) for row in range(UTTERANCES)],
        features=torch.randn(UTTERANCES, frames, 80),
        feature_lengths=torch.full((UTTERANCES,), frames),
        tokens=torch.randint(SIL + 2, VOCAB, (UTTERANCES, tokens)),
        token_lengths=torch.full((UTTERANCES,), tokens),
        align_tokens=aligned,
        align_lengths=torch.full((UTTERANCES,), tokens),
        texts=[""] * UTTERANCES,
        seconds=UTTERANCES * SECONDS,
        references=[None] * UTTERANCES,
        speakers=[""] * UTTERANCES,
        speeds=[1.0] * UTTERANCES,
        recombined=[False] * UTTERANCES,
    )


def training_step(model: SpeechTextModel, tasks: TasksConfig) -> Callable[[], object]:
    """Forward, backward and update with the losses of the tasks, after their warm-up."""
    batch = batch_of_speech()
    tokenizer = train_tokenizer(
        [string.ascii_lowercase], kind="char"
    )  # tasks know one; unused here
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()

    def step() -> None:
        encoding = model.encode_normalised(batch.features, batch.feature_lengths)
        state = Step(
            model=model,
            batch=batch,
            encoding=encoding,
            tokenizer=tokenizer,
            log_mel=LogMelConfig(),
            number=tasks.align.warmup_steps,
        )
        losses, _ = sum_losses(tasks, state)
        optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def searching(
    model: SpeechTextModel, *, together: int = UTTERANCES, **options: object
) -> Callable[[], object]:
    """Encoding and search, so many utterances at a time."""
    batch = batch_of_speech()
    settings = SearchOptions(**options)  # type: ignore[arg-type]
    parts = [
        (batch.features[first : first + together], batch.feature_lengths[first : first + together])
        for first in range(0, UTTERANCES, together)
    ]

    def run() -> object:
        with torch.inference_mode():
            return [search(model, model.encode_speech(*part), settings) for part in parts]

    return run


def aligning(model: SpeechTextModel) -> Callable[[], object]:
    """Encoding, frame scores and Viterbi search of one batch."""
    batch = batch_of_speech()
    words = [-1 if token == SIL else 0 for token in batch.align_tokens[0].tolist()]
    texts = [AlignedTokens(row, words, ["w"]) for row in batch.align_tokens.tolist()]

    def run() -> object:
        with torch.inference_mode():
            encoding = model.encode_speech(batch.features, batch.feature_lengths)
            scores = model.align_scores(encoding, batch.align_tokens)
        return find_paths(scores, batch.feature_lengths, texts)

    return run


def features() -> Callable[[], object]:
    """Log-mel features of one utterance after the other."""
    waveforms = [torch.randn(int(16_000 * SECONDS)) * 0.1 for _ in range(UTTERANCES)]
    config = LogMelConfig()
    return lambda: [compute_log_mel(waveform, config) for waveform in waveforms]


def scoring(folder: Path) -> Callable[[], object]:
    """``speechmm score`` of 2,000 utterances, the start of the program included."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(500)]
    for name in ("hyp", "ref"):
        rows = [f"u{row:05d} {' '.join(rng.choice(words, 12))}" for row in range(2000)]
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "speechmm", "score", str(folder / "hyp"), str(folder / "ref")]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def starting(*code: str) -> Callable[[], object]:
    """A process from its start to its end."""
    return lambda: subprocess.run([sys.executable, *code], check=True, capture_output=True)


def make_cases(size: str, folder: Path) -> dict[str, Callable[[], Case]]:
    """Every case by name; what it needs is made when it is called."""
    audio = UTTERANCES * SECONDS

    def model() -> SpeechTextModel:
        torch.manual_seed(0)
        return SpeechTextModel(SIZES[size], vocab_size=VOCAB, n_mels=80)

    def loaded() -> SpeechTextModel:
        """As ``load_bundle`` leaves it."""
        made = model().eval()
        to_column_major(made)
        return made

    return {
        "features": lambda: (audio, features()),
        "train": lambda: (audio, training_step(model(), TasksConfig())),
        "train-asr": lambda: (audio, training_step(model(), TasksConfig(align=Align(weight=0.0)))),
        "train-align": lambda: (audio, training_step(model(), TasksConfig(asr=Asr(weight=0.0)))),
        "greedy": lambda: (audio, searching(loaded(), decoder="ctc")),
        "greedy-single": lambda: (audio, searching(loaded(), decoder="ctc", together=1)),
        "attention": lambda: (audio, searching(loaded(), decoder="attention")),
        "beam4": lambda: (audio, searching(loaded(), decoder="joint", beam=4)),
        "beam10-single": lambda: (audio, searching(loaded(), decoder="joint", beam=10, together=1)),
        "align": lambda: (audio, aligning(loaded())),
        "score": lambda: (None, scoring(folder)),
        "help": lambda: (None, starting("-m", "speechmm", "--help")),
        "import-torch": lambda: (None, starting("-c", "import torch")),
    }


def measure(case: Case, repetitions: int) -> dict[str, object]:
    """Times one case; the first run warms up and does not count."""
    audio, run = case
    run()
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    median = statistics.median(times)
    return {
        "median_seconds": median,
        "min_seconds": min(times),
        "max_seconds": max(times),
        "audio_seconds_per_second": None if audio is None else audio / median,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the cases asked for."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--cases", default="", help="names with commas between; all when not given")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the model")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--repetitions", type=int, default=7, help="that count")
    parser.add_argument("--out", type=Path, help="JSON file; otherwise it is printed")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(arguments.size, Path(folder))
        names = arguments.cases.split(",") if arguments.cases else list(cases)
        unknown = [name for name in names if name not in cases]
        if unknown:
            parser.error(f"--cases: found {unknown}; expected some of {', '.join(cases)}")
        results = {}
        for name in names:
            results[name] = measure(cases[name](), arguments.repetitions)
            rate = results[name]["audio_seconds_per_second"]
            shown = f"{rate:8.0f} audio s/s" if rate else ""
            print(f"{name:14}{results[name]['median_seconds']:9.4f} s{shown}", file=sys.stderr)
    report = {
        "size": arguments.size,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cases": results,
    }
    text = json.dumps(report, indent=1) + "\n"
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()

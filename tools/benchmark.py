"""Measures speed and memory on made-up audio and writes JSON: medians and spread of every case.

    python tools/benchmark.py [--cases train,beam4] [--size tiny] [--threads 2] [--out FILE]
    python tools/benchmark.py --device cuda --precision bf16 --size base --utterances 64 --seconds 11

Compare runs of one machine only, taken in turn: absolute times drift where machines are shared.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechmm.audio.log_mel import LogMel, LogMelConfig
from speechmm.data.batch import Batch
from speechmm.inference.alignment.token_path import find_paths
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.weight_layout import to_column_major
from speechmm.text.tokenizer import SIL, AlignedTokens
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.compiling import Compile, choose, compile_layers, records
from speechmm.training.cuda_graphs import LOSS, RecordedPasses
from speechmm.training.tasks import Align, Asr, Step, TasksConfig, sum_losses

SIZES = {
    "tiny": SpeechTextConfig(d_model=128, ff_dim=512, encoder_layers=4, decoder_layers=2),
    "small": SpeechTextConfig(d_model=256, ff_dim=1024, encoder_layers=8, decoder_layers=3),
    "base": SpeechTextConfig(
        d_model=256, ff_dim=1024, encoder_layers=12, decoder_layers=6, conv_kernel=15
    ),
    "large": SpeechTextConfig(
        d_model=512, heads=8, ff_dim=2048, encoder_layers=12, decoder_layers=6, conv_kernel=15
    ),
}
VOCAB = 33
TOKENS_A_SECOND = 12


@dataclass(frozen=True)
class Setting:
    """What all cases share."""

    size: SpeechTextConfig = SIZES["tiny"]
    utterances: int = 10
    """In one batch, all of them equally long."""
    seconds: float = 3.0
    """Of each utterance."""
    device: str = "cpu"
    precision: str = "32"
    compile: Compile = "off"
    """Of training steps, as ``fit --model.compile`` has it."""

    @property
    def audio(self) -> float:
        """Seconds in the batch."""
        return self.utterances * self.seconds

    def autocast(self) -> torch.autocast:
        """Mixed precision as ``fit --trainer.precision bf16-mixed`` has it, where it is asked for."""
        return torch.autocast(self.device.split(":")[0], torch.bfloat16, self.precision == "bf16")

    def model(self) -> SpeechTextModel:
        """With random weights."""
        torch.manual_seed(0)
        made = SpeechTextModel(self.size, vocab_size=VOCAB, n_mels=80)
        return made.to(self.device)

    def loaded(self) -> SpeechTextModel:
        """As ``load_bundle`` leaves it."""
        made = self.model().eval()
        to_column_major(made)
        return made

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


WARM_UP = 2
"""Runs before those that count: a device compiles and chooses its kernels in them."""

Case = tuple[float | None, Callable[[], object]]
"""Audio seconds, where there is audio, and what is timed."""


def batch_of_speech(setting: Setting) -> Batch:
    """Random features and texts of the size real ones have."""
    torch.manual_seed(0)
    rows = setting.utterances
    frames, tokens = int(100 * setting.seconds), int(TOKENS_A_SECOND * setting.seconds)
    aligned = torch.randint(SIL + 2, VOCAB, (rows, tokens))
    aligned[:, ::6] = SIL
    batch = Batch(
        ids=[str(row) for row in range(rows)],
        features=torch.randn(rows, frames, 80),
        feature_lengths=torch.full((rows,), frames),
        tokens=torch.randint(SIL + 2, VOCAB, (rows, tokens)),
        token_lengths=torch.full((rows,), tokens),
        align_tokens=aligned,
        align_lengths=torch.full((rows,), tokens),
        texts=[""] * rows,
        seconds=setting.audio,
        references=[None] * rows,
        speakers=[""] * rows,
        speeds=[1.0] * rows,
        recombined=[False] * rows,
    )
    return batch.to(setting.device)


def training_step(setting: Setting, tasks: TasksConfig) -> Callable[[], object]:
    """Forward, backward and update with the losses of the tasks, after their warm-up."""
    model, batch = setting.model().train(), batch_of_speech(setting)
    kind = setting.compile
    if kind == "auto":
        kind = choose(torch.device(setting.device), lambda: math.inf)
    compile_layers(model, kind)
    recorded = RecordedPasses(model) if records(kind) else None
    tokenizer = train_tokenizer(
        [string.ascii_lowercase], kind="char"
    )  # tasks know one; unused here
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def compute(features: Tensor) -> dict[str, Tensor]:
        encoding = model.encode_normalised(features, batch.feature_lengths)
        state = Step(
            model=model,
            batch=batch,
            encoding=encoding,
            tokenizer=tokenizer,
            log_mel=LogMelConfig(),
            number=tasks.align.warmup_steps,
        )
        return sum_losses(tasks, state)[0]

    def step() -> None:
        with setting.autocast():
            inputs = (batch.features,)
            losses = recorded(compute, inputs) if recorded else compute(*inputs)
        optimizer.zero_grad()
        losses[LOSS].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def searching(
    setting: Setting, *, together: int | None = None, **options: object
) -> Callable[[], object]:
    """Encoding and search, so many utterances at a time; all of them when not given."""
    model, batch = setting.loaded(), batch_of_speech(setting)
    settings = SearchOptions(**options)  # type: ignore[arg-type]
    together = together or setting.utterances
    parts = [
        (batch.features[first : first + together], batch.feature_lengths[first : first + together])
        for first in range(0, setting.utterances, together)
    ]

    def run() -> object:
        with torch.inference_mode():
            return [search(model, model.encode_speech(*part), settings) for part in parts]

    return run


def aligning(setting: Setting) -> Callable[[], object]:
    """Encoding, frame scores and Viterbi search of one batch."""
    model, batch = setting.loaded(), batch_of_speech(setting)
    words = [-1 if token == SIL else 0 for token in batch.align_tokens[0].tolist()]
    texts = [AlignedTokens(row, words, ["w"]) for row in batch.align_tokens.tolist()]

    def run() -> object:
        with torch.inference_mode():
            encoding = model.encode_speech(batch.features, batch.feature_lengths)
            scores = model.align_scores(encoding, batch.align_tokens)
        return find_paths(scores, batch.feature_lengths, texts)

    return run


def features(setting: Setting) -> Callable[[], object]:
    """Log-mel features of one utterance after the other."""
    transform = LogMel(LogMelConfig()).to(setting.device)
    samples = int(16_000 * setting.seconds)
    waveforms = [
        torch.randn(1, samples, device=setting.device) * 0.1 for _ in range(setting.utterances)
    ]
    lengths = torch.tensor([samples], device=setting.device)
    return lambda: [transform(waveform, lengths) for waveform in waveforms]


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


def make_cases(setting: Setting, folder: Path) -> dict[str, Callable[[], Case]]:
    """Every case by name; what it needs is made when it is called."""
    audio = setting.audio
    joint, asr, align = (
        TasksConfig(),
        TasksConfig(align=Align(weight=0.0)),
        TasksConfig(asr=Asr(weight=0.0)),
    )
    return {
        "features": lambda: (audio, features(setting)),
        "train": lambda: (audio, training_step(setting, joint)),
        "train-asr": lambda: (audio, training_step(setting, asr)),
        "train-align": lambda: (audio, training_step(setting, align)),
        "greedy": lambda: (audio, searching(setting, decoder="ctc")),
        "greedy-single": lambda: (audio, searching(setting, decoder="ctc", together=1)),
        "attention": lambda: (audio, searching(setting, decoder="attention")),
        "beam4": lambda: (audio, searching(setting, decoder="joint", beam=4)),
        "beam10-single": lambda: (audio, searching(setting, decoder="joint", beam=10, together=1)),
        "align": lambda: (audio, aligning(setting)),
        "score": lambda: (None, scoring(folder)),
        "help": lambda: (None, starting("-m", "speechmm", "--help")),
        "import-torch": lambda: (None, starting("-c", "import torch")),
    }


def measure(case: Case, repetitions: int, wait: Callable[[], None]) -> dict[str, object]:
    """Times one case; the first runs warm up and do not count."""
    audio, run = case
    for _ in range(WARM_UP):
        run()
    times = []
    for _ in range(repetitions):
        wait()
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    median = statistics.median(times)
    return {
        "median_seconds": median,
        "min_seconds": min(times),
        "max_seconds": max(times),
        "audio_seconds_per_second": None if audio is None else audio / median,
    }


def where(setting: Setting) -> dict[str, object]:
    """What the numbers hold for."""
    facts: dict[str, object] = {"torch": torch.__version__, "machine": platform.machine()}
    if setting.device.startswith("cuda"):
        facts["card"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
        facts["peak_device_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return facts


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the cases asked for."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--cases", default="", help="names with commas between; all when not given")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the model")
    parser.add_argument("--utterances", type=int, default=10, help="in one batch")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each utterance")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="of training")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--repetitions", type=int, default=7, help="that count")
    parser.add_argument("--out", type=Path, help="JSON file; otherwise it is printed")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as in a training
    setting = Setting(
        SIZES[arguments.size],
        arguments.utterances,
        arguments.seconds,
        arguments.device,
        arguments.precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(setting, Path(folder))
        names = arguments.cases.split(",") if arguments.cases else list(cases)
        unknown = [name for name in names if name not in cases]
        if unknown:
            parser.error(f"--cases: found {unknown}; expected some of {', '.join(cases)}")
        results = {}
        for name in names:
            results[name] = measure(cases[name](), arguments.repetitions, setting.wait)
            rate = results[name]["audio_seconds_per_second"]
            shown = f"{rate:8.0f} audio s/s" if rate else ""
            print(f"{name:14}{results[name]['median_seconds']:9.4f} s{shown}", file=sys.stderr)
    report = {
        "size": arguments.size,
        "utterances": setting.utterances,
        "seconds": setting.seconds,
        "device": setting.device,
        "precision": setting.precision,
        "threads": arguments.threads,
        **where(setting),
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

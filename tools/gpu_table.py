"""Measures on one GPU how fast a model trains, trains from files, transcribes and aligns: one table.

    python tools/gpu_table.py OUT [--corpus AN4_DIR] [--parts step,busy,fit,transcribe] [--seconds 90]

Takes about five minutes. Every part that fails says so and the next one runs. OUT takes ``gpu.json``
(all numbers) and ``gpu.md`` (the table). Without a GPU everything runs in miniature on the CPU, to try the
script itself; those numbers mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

import benchmark

from speechmm.data.manifest import read_cuts
from speechmm.training.compiling import Compile
from speechmm.training.tasks import Align, TasksConfig

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("step", "busy", "fit", "transcribe")
TIMES_OVER = 10
"""How often AN4's test set is given to transcribe: 130 utterances alone are over before a GPU is warm."""

Numbers = dict[str, Any]


class Table:
    """Numbers by name, written after each."""

    def __init__(self, out: Path):
        self.out = out
        self.rows: dict[str, Numbers | str] = {}
        out.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, run: Callable[[], Numbers]) -> None:
        """Runs a part and keeps what it measured, or why it failed."""
        began = time.perf_counter()
        try:
            self.rows[name] = run()
        except Exception as error:
            self.rows[name] = f"{error!r:.300} {traceback.format_exc()[-600:]}"
        print(f"{name}: {self.rows[name]} ({time.perf_counter() - began:.0f} s)", flush=True)
        (self.out / "gpu.json").write_text(json.dumps(self.rows, indent=1) + "\n", encoding="utf-8")
        (self.out / "gpu.md").write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """The table in Markdown."""
        lines = ["| what | measured |", "|---|---|"]
        for name, row in self.rows.items():
            said = "failed" if isinstance(row, str) else ", ".join(map(_said, row.items()))
            lines.append(f"| {name} | {said} |")
        return "\n".join(lines) + "\n"


def _said(item: tuple[str, Any]) -> str:
    name, value = item
    return f"{name} {value:,.3g}" if isinstance(value, float) else f"{name} {value}"


def settings(on_gpu: bool) -> dict[str, benchmark.Setting]:
    """64 utterances of 11 s a batch; two short ones without a GPU."""
    if not on_gpu:
        tiny = benchmark.Setting(utterances=2, seconds=1.0, precision="bf16")
        return {"tiny": tiny}
    large = benchmark.Setting(
        benchmark.SIZES["large"], utterances=64, seconds=11.0, device="cuda", precision="bf16"
    )
    return {"d 256": dataclasses.replace(large, size=benchmark.SIZES["base"]), "d 512": large}


def steps(table: Table, setting: benchmark.Setting, name: str) -> None:
    """Joint step and recognition alone, compiled and not."""
    repetitions = 15 if setting.device == "cuda" else 1
    tasks = {"joint": TasksConfig(), "recognition alone": TasksConfig(align=Align(weight=0.0))}
    kinds: tuple[Compile, ...] = ("off", "graphs", "both")
    for kind in kinds if setting.device == "cuda" else kinds[:1]:
        for task, config in tasks.items():

            def run(config: TasksConfig = config, kind: Compile = kind) -> Numbers:
                step = benchmark.training_step(dataclasses.replace(setting, compile=kind), config)
                return benchmark.measure((setting.audio, step), repetitions, setting.wait)

            table.add(f"step, {name}, {task}, compile {kind}", run)


def busy(setting: benchmark.Setting) -> Numbers:
    """Share of a joint step in which the device computes."""
    step = benchmark.training_step(dataclasses.replace(setting, compile="auto"), TasksConfig())
    for _ in range(5):
        step()
    setting.wait()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if setting.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        began = time.perf_counter()
        for _ in range(3):
            step()
        setting.wait()
        wall = time.perf_counter() - began
    on_device = [
        event
        for event in profiler.events() or ()
        if event.device_type == torch.profiler.DeviceType.CUDA
    ]
    spans = sorted((event.time_range.start, event.time_range.end) for event in on_device)
    return {"share": _covered(spans) / 1e6 / wall, "launches a step": len(spans) / 3}


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of intervals that are sorted by their start."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def command(line: str, limit: float) -> tuple[str, float]:
    """What a command of this checkout writes, and the seconds it took.

    Raises:
        RuntimeError: It failed or took too long.
    """
    path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "speechmm", *shlex.split(line)],
        check=False,
        capture_output=True,
        text=True,
        timeout=limit,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode not in (0, 3):
        raise RuntimeError(f"exit {done.returncode}: {done.stderr[-400:]}")
    return done.stdout + done.stderr, time.perf_counter() - began


def prepare(corpus: Path, data: Path) -> Numbers:
    """Manifests and tokenizer of AN4."""
    _, manifests = command(f"prepare an4 {shlex.quote(str(corpus.resolve()))} {data}", 120)
    texts = f"tokenizer {data}/train.jsonl.gz --kind char --out {data}/tokenizer.json"
    _, tokenizer = command(texts, 60)
    return {"prepare s": manifests, "tokenizer s": tokenizer}


def fit(data: Path, run: Path, seconds: int, on_gpu: bool) -> Numbers:
    """AN4's recipe for a limited time: audio seconds a second between the first epoch and the last."""
    paths = f"--data.train [{data}/train.jsonl.gz] --data.dev [{data}/dev.jsonl.gz]"
    limit = (
        f"--trainer.max_time 00:00:{seconds // 60:02d}:{seconds % 60:02d} --trainer.max_epochs 40"
    )
    config = "--config recipes/an4/small.yaml --config recipes/an4/small.gpu.yaml"
    if not on_gpu:
        config = "--config recipes/an4/smoke.yaml"
        limit = (
            "--trainer.max_epochs 3 --trainer.limit_train_batches 2 --trainer.limit_val_batches 1"
        )
    text, wall = command(
        f"fit {config} {paths} {limit} --data.tokenizer {data}/tokenizer.json "
        f"--trainer.default_root_dir {run}",
        seconds + 240,
    )
    ends = [float(found) for found in re.findall(r"epoch \d+\S*: .*?(\d+) s\)", text)]
    audio = 3 * sum(cut.duration for cut in read_cuts(ROOT / data / "train.jsonl.gz"))
    numbers: Numbers = {"wall s": wall, "last lines": text[-300:]}
    if len(ends) > 2:
        epoch = statistics.median(b - a for a, b in itertools.pairwise(ends[1:]))
        numbers |= {"epoch s": epoch, "audio s/s": audio / epoch, "epochs": len(ends)}
    return numbers


def transcribe(data: Path, run: Path, flags: str, on_gpu: bool) -> Numbers:
    """AN4's test set, ten times over, start-up of the program included and, in rtf, not."""
    test = ROOT / data / "test.jsonl.gz"
    inputs = shlex.join([str(test)] * (TIMES_OVER if on_gpu else 1))
    out = run / "many.jsonl"
    device = "cuda" if on_gpu else "cpu"
    model = f"--model {run}/bundle --device {device}"
    _, wall = command(f"transcribe {inputs} {model} {flags} --format jsonl --out {out}", 240)
    meta = json.loads((ROOT / f"{out}.meta.json").read_text(encoding="utf-8"))
    audio = sum(cut.duration for cut in read_cuts(test)) * (TIMES_OVER if on_gpu else 1)
    known = {key: value for key, value in meta.items() if isinstance(value, int | float)}
    return {"x real time, start-up included": audio / wall, "wall s": wall, **known}


def align(data: Path, run: Path, on_gpu: bool) -> Numbers:
    """Words and characters of AN4's test set."""
    device = "cuda" if on_gpu else "cpu"
    model = f"--model {run}/bundle --device {device}"
    _, wall = command(f"align {data}/test.jsonl.gz {model} --format ctm --out {run}/test.ctm", 240)
    return {"wall s": wall}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the parts asked for."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("out", type=Path, help="folder for gpu.json and gpu.md")
    parser.add_argument("--corpus", type=Path, help="AN4; without it nothing is trained from files")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas between")
    parser.add_argument("--seconds", type=int, default=90, help="of training, at most")
    arguments = parser.parse_args(argv)
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts: found {sorted(unknown)}; expected some of {', '.join(PARTS)}")
    on_gpu = torch.cuda.is_available()
    torch.set_float32_matmul_precision("high")
    table = Table(arguments.out)
    table.add("machine", lambda: benchmark.where(next(iter(settings(on_gpu).values()))))
    for name, setting in settings(on_gpu).items():
        if "step" in parts:
            steps(table, setting, name)
        if "busy" in parts:
            table.add(f"device busy, {name}", functools.partial(busy, setting))
    if arguments.corpus is None:
        return
    data, run = arguments.out.resolve() / "data", arguments.out.resolve() / "an4"
    if {"fit", "transcribe"} & set(parts):
        table.add("prepare", lambda: prepare(arguments.corpus, data))
    if "fit" in parts:
        table.add("fit, AN4's recipe", lambda: fit(data, run, arguments.seconds, on_gpu))
    if "transcribe" in parts:
        joint = "--beam 10 --ctc-weight 0.3 --length-bonus 0.5"
        table.add("transcribe, beam 10 joint", lambda: transcribe(data, run, joint, on_gpu))
        table.add("transcribe, greedy CTC", lambda: transcribe(data, run, "--decoder ctc", on_gpu))
        table.add("align", lambda: align(data, run, on_gpu))


if __name__ == "__main__":
    main()

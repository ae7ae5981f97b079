"""Trains variants of a recipe with several seeds and writes the table of what each switch is worth.

    python tools/ablation.py recipes/an4/ablation.yaml [--jobs 2] [--seeds 0,1,2] [--out FILE.md]

The file names the config, the sets to measure on, the decoding, and the variants: settings of
``speechmm fit`` by variant, the first being the reference of all others. Variants of one config make
equally many steps, whatever tasks they train; the table says how many. Runs that are finished are left
alone, transcripts too, and broken ones go on, so the program can be stopped and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import yaml

from speechmm.evaluation.scoring import score_files
from speechmm.evaluation.significance import interval95, resample_sums

DESCRIPTION = (__doc__ or "").partition("\n")[0]
PROGRAM = [sys.executable, "-m", "speechmm"]
LONGEST_NAME = 150  # letters; file systems take 255 bytes
LOCKS: defaultdict[Path, Lock] = defaultdict(Lock)


@dataclass(frozen=True)
class Plan:
    """What the YAML file says."""

    config: str
    manifests: dict[str, str]
    """Sets to measure on, by name."""
    folder: Path
    decode: str
    normalizer: str
    settings: dict[str, Any]
    """Of every variant, the reference too."""
    variants: dict[str, dict[str, Any]]
    """``decode`` replaces the decoding; everything else is a setting of the training."""

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Reads the file."""
        data = yaml.safe_load(path.read_text("utf-8"))
        return cls(
            config=data["config"],
            manifests=data.get("manifests") or {"": data["manifest"]},
            folder=Path(data["folder"]),
            decode=data.get("decode", ""),
            normalizer=data.get("normalizer", "basic"),
            settings=data.get("settings") or {},
            variants={name: settings or {} for name, settings in data["variants"].items()},
        )


@dataclass(frozen=True)
class Run:
    """One training, and errors and words of every utterance of each set."""

    errors: dict[str, list[int]]
    words: dict[str, list[int]]
    minutes: float
    steps: int


@dataclass
class Result:
    """One variant on one set: errors of every utterance, seed by seed."""

    errors: list[list[int]] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)
    steps: int = 0

    def add(self, run: Run, name: str) -> None:
        """Takes up what one seed gave on a set."""
        self.errors.append(run.errors[name])
        self.words = run.words[name]
        self.minutes.append(run.minutes)
        self.steps = run.steps

    @property
    def rates(self) -> list[float]:
        """Word error rate of each seed, a fraction."""
        return [sum(one) / sum(self.words) for one in self.errors]


def run(plan: Plan, name: str, seed: int, threads: int) -> Run:
    """One variant, trained and measured; what is finished is left alone."""
    settings = {**plan.settings, **plan.variants[name]}
    decode = str(settings.pop("decode", plan.decode))
    folder = plan.folder / f"{folder_name(settings)}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with LOCKS[folder]:  # variants that only decode differently share a training
        train(plan, folder, settings, seed, environment)
        scored = {
            set_name: measure(plan, folder, decode, manifest, environment)
            for set_name, manifest in plan.manifests.items()
        }
    return Run(
        errors={set_name: errors for set_name, (errors, _) in scored.items()},
        words={set_name: words for set_name, (_, words) in scored.items()},
        minutes=json.loads((folder / "minutes.json").read_text()),
        steps=json.loads((folder / "bundle" / "config.json").read_text())["training"]["steps"],
    )


def folder_name(settings: dict[str, Any]) -> str:
    """Of a training with such settings; a long one ends in a digest in place of the rest."""
    key = "_".join(f"{k.rsplit('.', 1)[-1]}={v}" for k, v in sorted(settings.items()))
    name = "".join(c if c.isalnum() or c in "=._-" else "-" for c in key)
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return f"{name[: LONGEST_NAME - 13]}-{digest}"


def train(
    plan: Plan, folder: Path, settings: dict[str, Any], seed: int, environment: dict[str, str]
) -> None:
    """What is missing of one training."""
    arguments = [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in settings.items()]
    begin = time.monotonic()
    call(
        ["fit", "--config", plan.config, "--ckpt_path", "last", f"--seed_everything={seed}",
         f"--trainer.default_root_dir={folder}", *arguments],
        folder / "fit.log",
        environment,
    )  # fmt: skip
    clock = folder / "minutes.json"
    if not clock.exists():
        clock.write_text(json.dumps((time.monotonic() - begin) / 60))


def measure(
    plan: Plan, folder: Path, decode: str, manifest: str, environment: dict[str, str]
) -> tuple[list[int], list[int]]:
    """Errors and words of each utterance of a set."""
    parts = [decode] if len(plan.manifests) == 1 else [decode, manifest]
    label = "".join(c if c.isalnum() else "-" for c in " ".join(parts)) or "default"
    hypotheses = folder / f"{label}.jsonl"
    if not is_newer(hypotheses, folder / "bundle" / "model.safetensors", Path(manifest)):
        call(
            ["transcribe", manifest, "--model", str(folder / "bundle"), *shlex.split(decode),
             "--format", "jsonl", "--out", str(hypotheses)],
            folder / "transcribe.log",
            environment,
        )  # fmt: skip
    scored = score_files(hypotheses, Path(manifest), plan.normalizer)
    return (
        [one.counts.errors for one in scored.words],
        [one.counts.reference_words for one in scored.words],
    )


def is_newer(made: Path, *sources: Path) -> bool:
    """Whether a result is there, which is as new as what it was made from."""
    return made.is_file() and all(
        made.stat().st_mtime >= source.stat().st_mtime for source in sources
    )


def call(arguments: list[str], log: Path, environment: dict[str, str]) -> None:
    """Runs ``speechmm`` with its output in a file."""
    with log.open("w") as file:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=file, stderr=file, env=environment, check=False
        )
    if done.returncode not in (0, 3):
        raise SystemExit(f"speechmm {shlex.join(arguments)} failed: see {log}")


def table(results: dict[str, Result]) -> str:
    """Markdown: WER as mean and spread over the seeds, and the difference from the reference."""
    reference = next(iter(results.values()))
    rows = [
        "| variant | WER, mean of seeds | 95 % interval | spread | difference, 95 % interval | steps "
        "| minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        rates = result.rates
        spread = f"{100 * statistics.stdev(rates):.1f}" if len(rates) > 1 else ""
        difference = "" if result is reference else compare(result, reference)
        rows.append(
            f"| {name} | {100 * statistics.mean(rates):.1f} % | {interval(result)} | {spread} "
            f"| {difference} | {result.steps} | {statistics.median(result.minutes):.0f} |"
        )
    return "\n".join(rows) + "\n"


def interval(result: Result) -> str:
    """Of the word error rate in percent, by bootstrap over utterances."""
    ci = _interval(np.mean(np.asarray(result.errors), axis=0), result.words)
    return f"{100 * ci[0]:.1f} to {100 * ci[1]:.1f}" if ci else ""


def compare(result: Result, reference: Result) -> str:
    """Points of WER from the reference, by paired bootstrap over utterances."""
    seeds = min(len(result.errors), len(reference.errors))
    differences = np.mean(
        np.asarray(result.errors[:seeds]) - np.asarray(reference.errors[:seeds]), axis=0
    )
    ci = _interval(differences, reference.words)
    point = 100 * differences.sum() / sum(reference.words)
    return f"{point:+.1f} ({100 * ci[0]:+.1f} to {100 * ci[1]:+.1f})" if ci else f"{point:+.1f}"


def _interval(errors: np.ndarray, words: list[int]) -> tuple[float, float] | None:
    sums = resample_sums(np.column_stack([errors, np.asarray(words, np.float64)]))
    return interval95(sums[:, 0], sums[:, 1])


def tables(results: dict[str, dict[str, Result]]) -> str:
    """A table for every set, under its name where there are several."""
    if len(results) == 1:
        return table(next(iter(results.values())))
    return "\n".join(f"{name}:\n\n{table(result)}" for name, result in results.items())


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints the table after every run."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("plan", type=Path, help="YAML file of variants")
    parser.add_argument("--seeds", default="0", help="separated by commas; default: 0")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args(argv)
    plan = Plan.load(arguments.plan)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    results: dict[str, dict[str, Result]] = {set_name: {} for set_name in plan.manifests}
    with ThreadPoolExecutor(arguments.jobs) as jobs:
        waiting = [
            (name, jobs.submit(run, plan, name, seed, arguments.threads))
            for seed in seeds
            for name in plan.variants
        ]
        for name, future in waiting:
            done = future.result()
            for set_name, result in results.items():
                result.setdefault(name, Result()).add(done, set_name)
            text = tables(results)
            print(text, flush=True)
            if arguments.out:
                arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

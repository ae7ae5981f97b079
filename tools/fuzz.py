"""Attacks all readers and commands with damaged inputs, and trainings and commands with kills.

    python tools/fuzz.py [--count 2000] [--seed 0] [--jobs 2] [--only score] [--out fuzz]
    python tools/fuzz.py --seed 0 --only "score hyp" --case 17   # one input again
    python tools/fuzz.py --kills 30                              # kill -9 and SIGTERM at random moments
    python tools/fuzz.py --long-lines                            # what takes quadratic time

Valid inputs of every kind are made first, by the toolkit itself (``OUT/world``, a minute). Each damaged
input is a function of the seed, the target's name and its number. It is run in a fork of this process,
every fiftieth command as a program of its own. Nothing but exit codes 0, 2 and 3, one line of error
for 2, no traceback, at most 30 s and 2 GB, and no change outside ``--out`` will do. What fails is kept
in ``OUT/faults``, one folder a cause, with the input and how to make it again; ``OUT/found.json`` counts.
The exit code is 1 where anything failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: processes are forked
os.environ.setdefault("MKL_NUM_THREADS", "1")

from fuzzing.attack import Case, Verdict, attack
from fuzzing.batches import attack_readers
from fuzzing.targets import Target, all_targets
from fuzzing.task_world import learn_quickly
from fuzzing.world import make_world

PROGRAM_SHARE = 50  # every so many commands one is run as a program
KEPT = 5  # examples of each cause
BATCH = 40  # inputs of readers in one fork
Result = tuple[str, Verdict]
Work = tuple[Sequence[Case], Path, Path, int]


def main(argv: Sequence[str] | None = None) -> int:
    """Attacks, and says what was found."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--count", type=int, default=2000, help="damaged inputs (or kills' runs)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--only", default="", help="targets whose name begins so: read:, score, fit ..."
    )
    parser.add_argument("--case", type=int, help="one input of the target --only, by its number")
    parser.add_argument("--kills", type=int, default=0, help="kill so many commands instead")
    parser.add_argument("--long-lines", action="store_true", help="look for quadratic time instead")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    arguments = parser.parse_args(argv)
    targets = [one for one in all_targets() if one.name.startswith(arguments.only)]
    if arguments.list or not targets:
        print("\n".join(one.name for one in targets or all_targets()))
        return 0 if targets else 2
    out = arguments.out.absolute()
    if arguments.long_lines:
        from fuzzing.long_lines import measure

        return report(measure(), out)
    world = prepared_world(out)
    if arguments.kills:
        from fuzzing.kills import kill_commands

        preload()
        return report(kill_commands(arguments.kills, arguments.seed, world, out), out)
    if arguments.case is not None:
        targets = [one for one in targets if one.name == arguments.only] or targets
        cases = [Case(seed=arguments.seed, target=targets[0], number=arguments.case)]
    else:
        cases = list(draw_cases(targets, arguments.count, arguments.seed))
    return report(run(cases, world, out, jobs=arguments.jobs), out)


def prepared_world(out: Path) -> Path:
    """The folder of valid inputs, made where it is not there yet."""
    world = out / "world"
    if not (world / "done").is_file():
        shutil.rmtree(world, ignore_errors=True)
        make_world(world)
        (world / "done").touch()
    return world


def draw_cases(targets: Sequence[Target], count: int, seed: int) -> Iterator[Case]:
    """So many inputs, spread over the targets by their weights, numbered for each target."""
    draw = Random(seed)
    numbers: Counter[str] = Counter()
    for target in draw.choices(targets, [one.weight for one in targets], k=count):
        yield Case(seed=seed, target=target, number=numbers[target.name])
        numbers[target.name] += 1


def preload() -> None:
    """Imports what commands import, so that forks need not."""
    import importlib

    import torch

    from speechmm.cli.main import COMMANDS

    torch.set_num_threads(1)
    for command in COMMANDS.values():
        importlib.import_module(f"speechmm.cli.{command.module}")
    for name in (
        "training.command", "training.checkpoints", "models.bundle", "inference.api", "data.manifest",
        "text.tokenizer", "evaluation.system_table", "alignments.files", "data.transcripts.tables",
    ):  # fmt: skip
        importlib.import_module(f"speechmm.{name}")
    learn_quickly()


def run(cases: Sequence[Case], world: Path, out: Path, *, jobs: int) -> Iterator[Result]:
    """The verdict on every case, with its name."""
    preload()
    reading = [case for case in cases if case.target.reader]
    others = [case for case in cases if not case.target.reader]
    batches = [reading[first : first + BATCH] for first in range(0, len(reading), BATCH)]
    work: list[Work] = [(batch, world, out, 0) for batch in batches]
    work += [([case], world, out, number) for number, case in enumerate(others)]
    Random(0).shuffle(work)
    if jobs == 1:
        for one in work:
            yield from run_batch(one)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for results in pool.imap_unordered(run_batch, work):
            yield from results


def run_batch(work: Work) -> list[Result]:
    """Runs some cases; what fails is kept with how to make it again."""
    cases, world, out, number = work
    names = [f"{case.target.name} {case.number}" for case in cases]
    folders = [
        out / "running" / re.sub(r"\W+", "-", f"{case.seed} {name}")
        for case, name in zip(cases, names, strict=True)
    ]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if cases[0].target.reader:
        verdicts = attack_readers(cases, world, folders)
    else:
        program = number % PROGRAM_SHARE == PROGRAM_SHARE - 1 and not cases[0].target.shortened
        verdicts = [attack(cases[0], world, folders[0], subprocess_too=program)]
    for case, verdict, folder in zip(cases, verdicts, folders, strict=True):
        if verdict.fault:
            again = f'--seed {case.seed} --only "{case.target.name}" --case {case.number}'
            keep(folder, verdict, f"python tools/fuzz.py {again}", out)
    return list(zip(names, verdicts, strict=True))


def keep(folder: Path, verdict: Verdict, again: str, out: Path) -> None:
    """Moves the input of a fault to the folder of its cause, unless there are examples enough."""
    place = out / "faults" / re.sub(r"[^\w.]+", "-", verdict.fault)[:80]
    if place.is_dir() and sum(1 for _ in place.iterdir()) >= KEPT:
        shutil.rmtree(folder, ignore_errors=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verdict.json").write_text(
        json.dumps({"again": again, **asdict(verdict)}, indent=1), "utf-8"
    )
    place.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place / folder.name, ignore_errors=True)
    shutil.move(folder, place / folder.name)


def report(verdicts: Iterator[tuple[str, Verdict]], out: Path) -> int:
    """Prints faults as they come and the sums at the end; writes them as JSON."""
    began = time.monotonic()
    codes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    slowest = largest = 0.0
    count = 0
    for count, (name, verdict) in enumerate(verdicts, start=1):
        codes[str(verdict.code)] += 1
        slowest, largest = max(slowest, verdict.seconds), max(largest, verdict.memory)
        if verdict.fault:
            if not faults[verdict.fault]:
                print(f"{name}: {verdict.fault}", flush=True)
            faults[verdict.fault] += 1
        if count % 500 == 0:
            print(f"{count} inputs, {sum(faults.values())} faults", file=sys.stderr, flush=True)
    found = {
        "inputs": count, "codes": dict(sorted(codes.items())), "faults": sum(faults.values()),
        "causes": dict(faults.most_common()), "slowest_seconds": round(slowest, 1),
        "largest_bytes": largest, "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

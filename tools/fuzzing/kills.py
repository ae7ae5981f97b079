"""Kills commands at random moments; the same command run again must end as if nothing had happened."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from fuzzing.attack import Verdict, snapshot, start
from fuzzing.targets import Target

_EPOCHS = "--trainer.max_epochs 4"
COMMANDS = {
    "prepare": "prepare folder {world}/corpora/folder {out}/p",
    "features": "features {world}/data/train.jsonl.gz {world}/data/dev.jsonl.gz --out {out}/f",
    "tokenizer": "tokenizer {world}/data/train.jsonl.gz --kind bpe --vocab-size 22 --out {out}/t.json",
    "fit": "fit --config {world}/joint.yaml --ckpt_path last --trainer.default_root_dir {out}/run "
    + _EPOCHS,
    "fit, workers": "fit --config {world}/joint.yaml --ckpt_path last --data.num_workers 1 "
    "--trainer.default_root_dir {out}/run " + _EPOCHS,
    "transcribe": "transcribe {world}/corpora/folder --model {world}/bundle --format jsonl "
    "--out {out}/t.jsonl",
    "align": "align {world}/corpora/folder --model {world}/bundle --format durations --out {out}/d",
    "score": "score {world}/out/t.jsonl {world}/data/train.jsonl.gz --out {out}/r",
}
_VARIES = re.compile(r"events\.out\.tfevents|\.meta\.json$|curves\.png$|^run/\.lock$")
"""Files that hold times."""
_TIMES = re.compile(rb'"(?:seconds|rtf|command|version)[^,}]*|generated [^<]*|/out-\d+/')


@dataclass(frozen=True)
class Kill:
    """What is killed, when and how."""

    command: str
    moment: float
    """Seconds after its start."""
    how: signal.Signals


def kill_commands(count: int, seed: int, world: Path, out: Path) -> Iterator[tuple[str, Verdict]]:
    """Kills so many commands, by SIGKILL or SIGTERM; the modules they need are imported already.

    Args:
        count: Kills.
        seed: Of commands and moments.
        world: Valid inputs.
        out: Folder for what is written.
    """
    draw = Random(f"kills/{seed}")
    usual: dict[str, tuple[float, dict[str, str]]] = {}
    folder = out / "kills" / "run"  # the same for all: results hold its name
    for number in range(count):
        name = list(COMMANDS)[number % len(COMMANDS)]
        if name not in usual:
            usual[name] = _undisturbed(name, world, folder)
        seconds, wanted = usual[name]
        how = draw.choice((signal.SIGKILL, signal.SIGTERM))
        kill = Kill(name, draw.uniform(0, seconds), how)
        fault = next(_faults(kill, world, folder, wanted), "")
        said = (folder / "stderr").read_text("utf-8") if fault else ""
        if fault:
            kept = out / "kills" / f"{seed}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept)
        fault = f"{name}: {fault}" if fault else ""
        yield (
            f"{name}, {how.name} after {kill.moment:.2f} s",
            Verdict(code=0, fault=fault, detail=said[-3000:], seconds=seconds),
        )


def _undisturbed(name: str, world: Path, folder: Path) -> tuple[float, dict[str, str]]:
    """Seconds and results of a command that nothing kills."""
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.monotonic()
    code = _finish(_begin(name, world, folder))
    if code not in (0, 3):
        raise SystemExit(f"{name}: {(folder / 'stderr').read_text('utf-8')}")
    return time.monotonic() - begin, contents(folder / "out")


def _faults(kill: Kill, world: Path, folder: Path, wanted: dict[str, str]) -> Iterator[str]:
    """What is wrong after a kill, and after the same command once more."""
    shutil.rmtree(folder, ignore_errors=True)
    before = snapshot(world)
    process = _begin(kill.command, world, folder)
    time.sleep(kill.moment)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, kill.how)
    code = _finish(process)
    if "Traceback" in (folder / "stderr").read_text("utf-8"):
        yield "traceback where it was killed"
    if kill.how == signal.SIGTERM and code not in (0, 3, 143, -signal.SIGTERM):
        yield f"exit code {code} after SIGTERM"
    if _lives(process):
        yield "a process of it still runs"
    code = _finish(_begin(kill.command, world, folder))
    if code not in (0, 3) or "Traceback" in (folder / "stderr").read_text("utf-8"):
        yield f"exit code {code} when run again"
    found = contents(folder / "out")
    different = [
        name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)
    ]
    if different:
        yield f"other results: {', '.join(sorted(different)[:3])}"
    if snapshot(world) != before:
        yield "changes outside --out"


def _begin(name: str, world: Path, folder: Path) -> int:
    (folder / "out").mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    line = COMMANDS[name].replace("{world}", str(world)).replace("{out}", str(folder / "out"))
    return start(Target(name=name, seeds=()), folder, line.split(), folder, program=False)


def _finish(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _lives(session: int, seconds: float = 8.0) -> bool:
    """Whether any process of a session is still there after some seconds; those that are, are ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    os.killpg(session, signal.SIGKILL)
    return True


def contents(root: Path) -> dict[str, str]:
    """Digests of all files in a folder by their names, without what a clock decides."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not _VARIES.search(name):
            data = _values(path) if path.suffix == ".ckpt" else path.read_bytes()
            data = data.replace(os.fsencode(root), b"")
            found[name] = hashlib.sha256(_TIMES.sub(b"", data)).hexdigest()
    return found


def _values(checkpoint: Path) -> bytes:
    """All values of a checkpoint with their places in it.

    Its bytes may differ where its values do not: what was read from a file holds equal strings and
    numbers once or several times, which is how they are pickled again.
    """
    lines: list[bytes] = []

    def walk(place: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            data = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            shape = f"{place} {tuple(value.shape)} {value.dtype} ".encode()
            lines.append(shape + hashlib.sha256(data).digest())
        elif isinstance(value, Mapping):
            for name in sorted(value, key=repr):
                walk(f"{place}/{name}", value[name])
        elif isinstance(value, list | tuple):
            for number, one in enumerate(value):
                walk(f"{place}/{number}", one)
        else:
            lines.append(f"{place} {value!r}".encode("utf-8", "surrogateescape"))

    walk("", torch.load(checkpoint, map_location="cpu", weights_only=True))
    return b"\n".join(lines)

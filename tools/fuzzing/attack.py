"""Runs one damaged input through a reader or a command, in a process of its own, and judges the outcome."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzing.mutations import PLACES, damage, put_in_place
from fuzzing.targets import Target

SECONDS = 30
"""Processor time that an input may take."""
WALL_SECONDS = 90
"""The same on the clock, for what waits; machines may be busy."""
MEMORY = 2 * 10**9
"""Bytes that a process may hold."""
CODES = (0, 2, 3)
LONGEST_ARGUMENT = 2_000
"""Bytes; of many more, an hour would be spoken."""
_ROOM = 4 * 10**9  # address space beside what the parent has: PyTorch reserves without using
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_ERROR = re.compile(r"^speechmm[\w -]*: error: .+", re.MULTILINE)
_PLACE_SHARE = 0.06
_LEFT = (".png", ".html", ".md")
"""Suffixes of files in folders that nothing reads."""
_OTHER_NAMES = ("caf\udce9.wav", "a b (1)", "-x", "ü" * 40, "x\ny")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One damaged input, made again from these alone."""

    seed: int
    target: Target
    number: int

    @property
    def random(self) -> random.Random:
        """The same draws every time."""
        return random.Random(f"{self.seed}/{self.target.name}/{self.number}")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one input."""

    code: int | None = None
    """Exit code; None where a signal ended the process."""
    fault: str = ""
    """What is wrong, in a few words; faults of one cause have the same. Empty where all is well."""
    detail: str = ""
    """The end of what was printed."""
    what: str = ""
    """How the input was made."""
    seconds: float = 0.0
    memory: int = 0


def make_input(
    case: Case, world: Path, folder: Path, *, places: Sequence[str] = PLACES
) -> tuple[Path, str]:
    """Copies a valid input and damages it; its path, and what was done.

    Args:
        case: What is drawn.
        world: The valid inputs.
        folder: An empty one.
        places: What may stand in the place of a file.
    """
    draw = case.random
    found = sorted({path for seed in case.target.seeds for path in world.glob(seed)})
    chosen = draw.choice(found)
    copy = folder / "in" / chosen.name
    copy.parent.mkdir(parents=True)
    if chosen.is_dir():
        shutil.copytree(chosen, copy)
    else:
        shutil.copy2(chosen, copy)
    victim = _victim(copy, draw) if copy.is_dir() else copy
    if draw.random() < _PLACE_SHARE:
        what = draw.choice(places)
        put_in_place(victim, what, draw)
    elif draw.random() < 0.04 and victim.is_file():
        what = f"named {(name := draw.choice(_OTHER_NAMES))!a}"
        suffix = "".join(victim.suffixes[-2:]) if "." not in name else ""
        renamed = victim.with_name(f"{name}{suffix}")
        victim.rename(renamed)
        copy = renamed if victim == copy else copy
    else:
        what = "damaged"
        victim.write_bytes(damage(victim.read_bytes(), draw))
        if victim.name == "model.safetensors" and draw.random() < 0.7:
            _correct_checksum(victim)
    return copy, f"{chosen.relative_to(world)}: {victim.relative_to(folder)!s}: {what}"


def _victim(folder: Path, draw: random.Random) -> Path:
    """A file of a folder: first its kind is drawn, so that many recordings do not hide one table."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kinds: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix not in _LEFT:
            kind = path.suffix if path.suffix in (".wav", ".flac", ".sph", ".npy") else path.name
            kinds.setdefault(kind, []).append(path)
    names = [kind for kind, paths in kinds.items() if len(paths) > 3 or draw.random() < 0.95]
    return draw.choice(kinds[draw.choice(names or sorted(kinds))])


def _correct_checksum(weights: Path) -> None:
    config = weights.with_name("config.json")
    with contextlib.suppress(OSError, ValueError):
        values = json.loads(config.read_text("utf-8"))
        values["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        config.write_text(json.dumps(values), "utf-8")


def attack(case: Case, world: Path, folder: Path, *, subprocess_too: bool = False) -> Verdict:
    """Makes an input and runs it; ``folder`` is removed unless there is a fault.

    Args:
        case: The input.
        world: The valid inputs, which must stay as they are.
        folder: A new folder for the input and what is written.
        subprocess_too: Run the program itself, not its code in a fork of this process.
    """
    folder.mkdir(parents=True)
    copy, what = make_input(case, world, folder)
    (folder / "out").mkdir()
    (folder / "tmp").mkdir()
    names = {"{in}": str(copy), "{out}": str(folder / "out"), "{world}": str(world)}
    if "{text}" in case.target.argv:
        names["{text}"] = _as_argument(copy)
    argv = [_filled(word, names) for word in case.target.argv]
    kept = [(world, []), (folder, _may_change(case.target, copy, folder))]
    before = [snapshot(root, but) for root, but in kept]
    began = time.monotonic()
    process = start(case.target, copy, argv, folder, program=subprocess_too)
    status, usage, hung = _wait(process)
    seconds, memory = time.monotonic() - began, usage.ru_maxrss * 1024
    said = (folder / "stderr").read_text("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    fault = "hang" if hung else judge(code, said, memory, reader=bool(case.target.reader))
    after = [snapshot(root, but) for root, but in kept]
    changed = sorted({row[0] for a, b in zip(before, after, strict=True) for row in a ^ b})
    if not fault and changed:
        fault = f"outside --out: {', '.join(changed[:2])}"
    if not fault and (left := leftovers(folder)):
        fault = f"left behind: {left}"
    if not fault:
        shutil.rmtree(folder, ignore_errors=True)
    return Verdict(
        code=code if code >= 0 else None,
        fault=fault,
        detail=said[-3000:] if fault else "",
        what=f"{what}\n{argv}",
        seconds=seconds,
        memory=memory,
    )


def _as_argument(path: Path) -> str:
    """What a file holds, as a shell can give it to a program; "" of what is no file."""
    if not path.is_file():
        return ""
    return os.fsdecode(path.read_bytes()[:LONGEST_ARGUMENT].replace(b"\0", b"").rstrip(b"\n"))


def _filled(word: str, names: dict[str, str]) -> str:
    for mark, path in names.items():
        word = word.replace(mark, path)
    return word


def _may_change(target: Target, copy: Path, folder: Path) -> list[Path]:
    """What a command is told to write to."""
    told = [folder / name for name in ("out", "tmp", "stderr", "stdout")]
    if target.writes_input:  # or what it leads to
        told += [copy, Path(os.path.realpath(copy))]
    return told


def snapshot(root: Path, but: Sequence[Path] = ()) -> set[tuple[str, int, int, int]]:
    """Name, mode, size and time of all that is in a folder.

    Args:
        root: The folder.
        but: Files and folders that are left out.
    """
    found = set()
    left_out = set(map(str, but))
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if f"{folder}/{name}" not in left_out]
        for path in (f"{folder}/{name}" for name in [*subfolders, *names]):
            if path not in left_out:
                status = os.lstat(path)
                is_folder = stat.S_ISDIR(status.st_mode)
                size, changed = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
                name = path[len(str(root)) + 1 :].encode("utf-8", "backslashreplace").decode()
                found.add((name, status.st_mode, size, changed))
    return found


def start(target: Target, copy: Path, argv: list[str], folder: Path, *, program: bool) -> int:
    """Starts the work in a new session; its process id."""
    sys.stdout.flush()
    if program:
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            child = subprocess.Popen(
                [sys.executable, "-m", "speechmm", *argv], stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, cwd=folder / "tmp", env={**os.environ, "TMPDIR": str(folder / "tmp")},
                start_new_session=True,
            )  # fmt: skip
        child.returncode = 0  # it is waited for by its number
        return child.pid
    process = os.fork()
    if process == 0:
        code = 1
        try:
            be_child(folder)
            code = _work(target, copy, argv)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    return process


def be_child(folder: Path) -> None:
    """Makes this process one that is attacked: its own session, streams, folder and limits."""
    os.setsid()
    for number, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    for handler in list(logging.getLogger().handlers):
        logging.getLogger().removeHandler(handler)
    os.environ["TMPDIR"] = str(folder / "tmp")
    import tempfile

    tempfile.tempdir = None
    os.chdir(folder / "tmp")
    faulthandler.enable(file=2)
    space = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (space + _ROOM, space + _ROOM))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY, MEMORY))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return pages * resource.getpagesize()


def _work(target: Target, copy: Path, argv: list[str]) -> int:
    """The exit code of the command or reader, as the program would give it."""
    from speechmm.errors import SpeechmmError

    try:
        if target.reader is None:
            from speechmm.cli.main import main

            return main(argv)
        target.reader(copy)
    except SpeechmmError as error:
        print(f"speechmm: error: {error}", file=sys.stderr)
        return 2
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _wait(process: int) -> tuple[int, resource.struct_rusage, bool]:
    """Waits for a process; its status, what it used, and whether it had to be ended."""
    end, hung = time.monotonic() + WALL_SECONDS, False
    while True:
        found, status, usage = os.wait4(process, os.WNOHANG)
        if found:
            break
        if time.monotonic() > end and not hung:
            hung = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        time.sleep(0.004)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        hung = hung or usage.ru_utime + usage.ru_stime > SECONDS - 2
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    return status, usage, hung


def judge(code: int, said: str, memory: int, *, reader: bool) -> str:  # noqa: PLR0911 (a fault each)
    """What is wrong with an outcome; "" where nothing is."""
    if "Traceback (most recent call last)" in said:
        return traceback_place(said)
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if code not in CODES:
        return f"exit code {code}"
    if memory > MEMORY or "out of memory (" in said:
        return "memory"
    if code == 2 and not reader and len(_ERROR.findall(said)) != 1:
        return f"{len(_ERROR.findall(said))} error lines"
    if "this is a bug: report it" in said:
        found = re.search(r"cannot be processed \((\w+): (.{0,30})", said)
        return f"unforeseen: {found[1]}: {found[2]}" if found else "unforeseen"
    return ""


def traceback_place(said: str) -> str:
    """Type of the last exception and the last place in the toolkit's own code."""
    trace = said[said.rindex("Traceback (most recent call last)") :]
    frames = [one for one in _FRAME.findall(trace) if "/speechmm/" in one[0]]
    path, line, function = frames[-1] if frames else ("?", "?", "?")
    errors = [row for row in trace.splitlines()[1:] if re.match(r"[\w.]+(: |$)", row)]
    kind = errors[-1].partition(":")[0] if errors else "?"
    return f"{kind} at {path.rpartition('/speechmm/')[2]}:{line} {function}"


def leftovers(folder: Path) -> str:
    """Unfinished files that were left, and temporary ones."""
    found = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    found = [
        path for path in found if path.name != ".ses"
    ]  # of ONNX Runtime, for the whole machine
    found += [path for path in folder.rglob(".*") if path.name.startswith((".tmp-", ".old-"))]
    return ", ".join(re.sub(r"[0-9a-f]{5,}", "#", path.name) for path in found[:2])

"""Runs many damaged inputs through readers in one fork: most take a millisecond, a fork takes thirty."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import shutil
import signal
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from fuzzing.attack import (
    SECONDS,
    WALL_SECONDS,
    Case,
    Verdict,
    be_child,
    judge,
    leftovers,
    make_input,
    snapshot,
)

_LENGTH = 4  # bytes before each answer


def attack_readers(cases: Sequence[Case], world: Path, folders: Sequence[Path]) -> list[Verdict]:
    """A verdict on each case; the folder of a case is removed unless there is a fault.

    Args:
        cases: Of readers.
        world: Valid inputs.
        folders: New folders, one a case.
    """
    verdicts: list[Verdict] = []
    while len(verdicts) < len(cases):  # once more for each input that ends its process
        done = len(verdicts)
        verdicts += _one_fork(cases[done:], world, folders[done:])
    return verdicts


def _one_fork(cases: Sequence[Case], world: Path, folders: Sequence[Path]) -> list[Verdict]:
    """Verdicts on the first cases: all, or up to the one that ended the process."""
    before = snapshot(world)
    begin = time.monotonic()
    reading_end, writing_end = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading_end)
        code = 1
        try:
            _be_reader(cases, world, folders, writing_end)
            code = 0
        except BaseException:
            os.write(writing_end, bytes(_LENGTH) + traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(writing_end)
    verdicts = _answers(reading_end, process)
    _, status, usage = os.wait4(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if len(verdicts) < len(cases):
        used = usage.ru_utime + usage.ru_stime
        hung = code in (-signal.SIGXCPU, -signal.SIGKILL) and used > SECONDS / 2
        hung = hung or time.monotonic() - begin > WALL_SECONDS
        fault = "hang" if hung else judge(code, "", usage.ru_maxrss * 1024, reader=True)
        verdicts.append(
            Verdict(fault=fault or f"exit code {code}", seconds=time.monotonic() - begin)
        )
    if snapshot(world) != before:
        verdicts[-1] = Verdict(fault="outside --out: the world", what="any of the batch")
    return verdicts


def _answers(pipe: int, process: int) -> list[Verdict]:
    """What a fork says, one answer after the other, until it ends or says nothing for too long."""
    verdicts: list[Verdict] = []
    with os.fdopen(pipe, "rb") as stream:
        while True:
            ready, _, _ = select.select([stream], [], [], WALL_SECONDS)
            if not ready:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                return verdicts
            length = stream.read(_LENGTH)
            if len(length) < _LENGTH:
                return verdicts
            if length == bytes(_LENGTH):
                raise SystemExit(stream.read().decode())
            answer: Verdict = pickle.loads(stream.read(int.from_bytes(length, "big")))
            verdicts.append(answer)


def _be_reader(cases: Sequence[Case], world: Path, folders: Sequence[Path], pipe: int) -> None:
    """Reads all cases and writes the verdicts to a pipe."""
    home = folders[0].with_name(f"{folders[0].name}-fork")
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    be_child(home)
    for case, folder in zip(cases, folders, strict=True):
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        answer = pickle.dumps(_read_one(case, world, folder))
        os.write(pipe, len(answer).to_bytes(_LENGTH, "big") + answer)
    os.chdir("/")
    shutil.rmtree(home, ignore_errors=True)


def _read_one(case: Case, world: Path, folder: Path) -> Verdict:
    from speechmm.errors import SpeechmmError

    folder.mkdir(parents=True)
    (folder / "tmp").mkdir()
    copy, what = make_input(case, world, folder)
    before = snapshot(folder, [folder / "out"])
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins anew
    begin = time.monotonic()
    code, said = 0, ""
    assert case.target.reader is not None
    try:
        case.target.reader(copy)
    except SpeechmmError:
        code = 2
    except BaseException:
        code, said = 1, traceback.format_exc()
    seconds = time.monotonic() - begin
    memory = _peak()
    fault = judge(code, said, memory, reader=True)
    changed = sorted({row[0] for row in snapshot(folder, [folder / "out"]) ^ before})
    if not fault and changed:
        fault = f"outside --out: {', '.join(changed[:2])}"
    if not fault and (left := leftovers(folder)):
        fault = f"left behind: {left}"
    if not fault:
        shutil.rmtree(folder, ignore_errors=True)
    return Verdict(
        code=code, fault=fault, detail=said[-3000:], what=what, seconds=seconds, memory=memory
    )


def _peak() -> int:
    """Bytes that this process held at most since the peak began."""
    rows = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * next(int(row.split()[1]) for row in rows if row.startswith("VmHWM"))

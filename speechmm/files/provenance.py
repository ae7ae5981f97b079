"""Reads and names the record of what made a file of transcripts: ``hyp.jsonl.meta.json``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict, cast

from speechmm.errors import ManifestError
from speechmm.files.atomic import write_text
from speechmm.files.json_text import fits, read_json, to_json


class Efficiency(TypedDict):
    """What a decoding run cost."""

    parameters: int
    model_bytes: int | None
    """Of the file of weights; None for a model in memory."""
    peak_memory_bytes: int | None
    """None where the system does not say."""
    threads: int
    seconds_by_part: dict[str, float]


class RunMeta(TypedDict, total=False):
    """What ``X.meta.json`` says of the transcripts in ``X``; older files have fewer keys."""

    model: str
    """Path of the bundle."""
    checkpoint_sha256: str
    decoding: dict[str, Any]
    """The search settings that had an effect."""
    command: str
    git_commit: str | None
    seed: int | None
    """Of the training."""
    rtf: float | None
    """Real-time factor: seconds of work per second of audio."""
    audio_seconds: float
    seconds: float
    efficiency: Efficiency


def meta_path(transcripts: Path) -> Path:
    """``hyp.jsonl`` -> ``hyp.jsonl.meta.json``."""
    return transcripts.with_name(f"{transcripts.name}.meta.json")


def write_meta(transcripts: Path, meta: RunMeta) -> None:
    """Writes the record of a file of transcripts beside it."""
    write_text(meta_path(transcripts), to_json(meta, indent=1) + "\n", ours=True)


def read_meta(transcripts: Path) -> RunMeta:
    """The record beside a file of transcripts; empty where there is none.

    Raises:
        ManifestError: The record is there and broken.
    """
    path = meta_path(transcripts)
    if not path.is_file():
        return {}
    found = read_json(path, expected=_EXPECTED, advice=_ADVICE)
    wrong = [
        name for name, shape in _SHAPES.items() if name in found and not fits(found[name], shape)
    ]
    if wrong:
        raise ManifestError(
            f"{path}: {wrong[0]} is {str(found[wrong[0]])[:40]!r}; expected {_EXPECTED}. {_ADVICE}"
        )
    return cast(RunMeta, found)


_EXPECTED = "what transcribe writes beside its transcripts"
_ADVICE = "Remove the file, or transcribe again."
_SHAPES: dict[str, Any] = {
    "model": str,
    "checkpoint_sha256": str,
    "decoding": {str: object},
    "command": str,
    "git_commit": (str, None),
    "seed": (int, None),
    "rtf": (float, None),
    "audio_seconds": float,
    "seconds": float,
    "efficiency": {
        "parameters": int,
        "model_bytes": (int, None),
        "peak_memory_bytes": (int, None),
        "threads": int,
        "seconds_by_part": {str: float},
    },
}
"""Of what there is; older files have fewer keys."""


def code_commit() -> str | None:
    """The git commit of this code when it runs from a working copy, "-dirty" when it was changed.

    None for an installed package, or where there is no git.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "speechmm")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()


def peak_memory_bytes() -> int | None:
    """The most memory this process has held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak

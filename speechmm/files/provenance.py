"""Reads and names the record of what made a file of transcripts: ``hyp.jsonl.meta.json``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict, cast

from speechmm.errors import ManifestError
from speechmm.files.atomic import write_text


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
    write_text(meta_path(transcripts), json.dumps(meta, ensure_ascii=False, indent=1) + "\n")


def read_meta(transcripts: Path) -> RunMeta:
    """The record beside a file of transcripts; empty where there is none.

    Raises:
        ManifestError: The record is there and broken.
    """
    path = meta_path(transcripts)
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{path}: cannot be read ({error}); expected what transcribe writes beside its "
            "transcripts. Remove the file, or transcribe again."
        ) from error
    return cast(RunMeta, found)


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

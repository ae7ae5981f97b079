"""What a set of transcripts was made with: the file beside them that ``speechmm score`` reads."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechmm.files.atomic import write_text
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.bundle import WEIGHTS_FILE, Bundle


def meta_path(transcripts: Path) -> Path:
    """``hyp.jsonl`` -> ``hyp.jsonl.meta.json``."""
    return transcripts.with_name(f"{transcripts.name}.meta.json")


def write_meta(
    transcripts: Path,
    bundle: Bundle,
    options: SearchOptions,
    *,
    listening: dict[str, Any],
    command: str,
    audio_seconds: float,
    seconds: float,
    parts: Mapping[str, float],
) -> None:
    """Writes the description of a file of transcripts beside it.

    Args:
        transcripts: The file that is described.
        bundle: The model.
        options: How it searched.
        listening: What it listened to besides the model.
        command: The command line.
        audio_seconds: Audio transcribed.
        seconds: Time it took, reading audio included, loading the model not.
        parts: Time by part of the work; loading the model may be among them.
    """
    meta: dict[str, Any] = {
        "model": str(bundle.path),
        "checkpoint_sha256": bundle.sha256,
        "decoding": decoding(options) | listening,
        "command": command,
        "git_commit": code_commit(),
        "seed": bundle.config.get("training", {}).get("seed"),
        "rtf": round(seconds / audio_seconds, 5) if audio_seconds else None,
        "audio_seconds": round(audio_seconds, 3),
        "seconds": round(seconds, 3),
        "efficiency": {
            "parameters": bundle.model.num_parameters(),
            "model_bytes": (bundle.path / WEIGHTS_FILE).stat().st_size
            if bundle.path.is_dir()
            else None,
            "peak_memory_bytes": peak_memory_bytes(),
            "threads": torch.get_num_threads(),
            "seconds_by_part": {name: round(value, 3) for name, value in parts.items()},
        },
    }
    write_text(meta_path(transcripts), json.dumps(meta, ensure_ascii=False, indent=1) + "\n")


def peak_memory_bytes() -> int | None:
    """The most memory this process has held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def decoding(options: SearchOptions) -> dict[str, Any]:
    """The search settings that have an effect."""
    settings = dataclasses.asdict(options)
    if options.decoder != "joint":
        del settings["ctc_weight"]
    if options.decoder == "ctc":
        del settings["length_bonus"]
    return settings


def code_commit() -> str | None:
    """The git commit of this code when it runs from a working copy, "-dirty" when it was changed.

    None for an installed package, or where there is no git.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", "speechmm"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit

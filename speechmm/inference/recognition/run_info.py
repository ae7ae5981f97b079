"""Describes a decoding run: model, search settings, time and memory, kept beside its transcripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from speechmm.files.provenance import Efficiency, RunMeta, code_commit, peak_memory_bytes
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.bundle import WEIGHTS_FILE, Bundle


def describe_run(
    bundle: Bundle,
    options: SearchOptions,
    *,
    fusion: Mapping[str, Any],
    command: str,
    audio_seconds: float,
    seconds: float,
    parts: Mapping[str, float],
) -> RunMeta:
    """What a file of transcripts was made with.

    Args:
        bundle: The model.
        options: How it searched.
        fusion: Settings of what the search scored with besides the model.
        command: The command line.
        audio_seconds: Audio transcribed.
        seconds: Time it took, reading audio included, loading the model not.
        parts: Time by part of the work; loading the model may be among them.
    """
    return {
        "model": str(bundle.path),
        "checkpoint_sha256": bundle.sha256,
        "decoding": decoding_settings(options) | dict(fusion),
        "command": command,
        "git_commit": code_commit(),
        "seed": bundle.training.seed,
        "rtf": round(seconds / audio_seconds, 5) if audio_seconds else None,
        "audio_seconds": round(audio_seconds, 3),
        "seconds": round(seconds, 3),
        "efficiency": _efficiency(bundle, parts),
    }


def _efficiency(bundle: Bundle, parts: Mapping[str, float]) -> Efficiency:
    weights = bundle.path / WEIGHTS_FILE
    return {
        "parameters": bundle.model.num_parameters(),
        "model_bytes": weights.stat().st_size if bundle.path.is_dir() else None,
        "peak_memory_bytes": peak_memory_bytes(),
        "threads": torch.get_num_threads(),
        "seconds_by_part": {name: round(value, 3) for name, value in parts.items()},
    }


def decoding_settings(options: SearchOptions) -> dict[str, Any]:
    """The search settings that have an effect."""
    settings = dataclasses.asdict(options) | {"decoder": options.searched_by}
    if options.searched_by != "joint":
        del settings["ctc_weight"]
    if options.searched_by == "ctc":
        del settings["length_bonus"]
    if options.task == "asr":
        del settings["task"]
    if not options.align_weight:
        del settings["align_weight"]
    return {name: value for name, value in settings.items() if value is not None}

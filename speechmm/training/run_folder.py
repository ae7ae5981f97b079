"""Tells what a run folder holds: a finished training, one to go on with, or one of other settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechmm.data.fingerprint import audio_digest, content_digest
from speechmm.data.skips import SkipReport
from speechmm.files.atomic import write_text
from speechmm.files.stamps import read_current, write_record
from speechmm.models.bundle import WEIGHTS_FILE
from speechmm.training.callbacks.bundle_writer import BUNDLE

RECORD = "fit.json"
"""Of a finished training: its stamp, and what it left out."""
STARTED = "started.txt"
"""The stamp of the settings and data that the folder's checkpoints belong to."""
LENGTH = ("max_epochs", "max_steps", "max_time")
"""Settings of the trainer that say when training ends."""


NO_MATTER = {
    "trainer": (
        "default_root_dir", "logger", "enable_progress_bar", "enable_model_summary", "profiler",
        "log_every_n_steps", "barebones", "enable_checkpointing",
    ),
    "data": ("num_workers", "cache_gb", "test", "strict"),
}  # fmt: skip
"""Settings that change no weight."""


@dataclass(frozen=True)
class Finished:
    """What a finished training says again."""

    skipped: SkipReport
    utterances: int


class RunFolder:
    """The folder of one training, asked for with these settings and input files."""

    def __init__(self, path: Path, settings: dict[str, Any], inputs: Sequence[Path]):
        """Makes the stamps.

        Args:
            path: The folder.
            settings: Every setting as plain values.
            inputs: The files that the training depends on.
        """
        self.path = path
        contents = {str(input): content_digest(input) for input in inputs}
        plain = _what_counts(settings, contents)
        audio = audio_digest(inputs)
        self._stamp = _digest([plain, audio])
        self._start_stamp = _digest([_without_length(plain), audio])

    def finished(self) -> Finished | None:
        """The training that ended here with the same settings and data; None when none did."""
        record = read_current(self.path / RECORD, self._stamp)
        try:
            if record is None or not (self.path / BUNDLE / WEIGHTS_FILE).is_file():
                return None
            items = [(row["item"], row["reason"]) for row in record["skipped"]]
            return Finished(SkipReport(items=items), int(record["utterances"]))
        except (KeyError, TypeError, ValueError):
            return None

    def can_go_on(self) -> bool:
        """Whether the checkpoints are of the same settings and data, but for the length."""
        try:
            text = (self.path / STARTED).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return False
        return text.strip() == self._start_stamp

    def begin(self) -> None:
        """Notes what the checkpoints written from now on belong to."""
        write_text(self.path / STARTED, self._start_stamp + "\n", ours=True)

    def finish(self, skipped: SkipReport, utterances: int) -> None:
        """Notes that the training has ended.

        Args:
            skipped: What was left out.
            utterances: How many could be used.
        """
        content = {"utterances": utterances, "skipped": skipped.to_dicts()}
        outputs = [self.path / BUNDLE / WEIGHTS_FILE]
        write_record(self.path / RECORD, self._stamp, content, outputs)


def _what_counts(settings: dict[str, Any], contents: dict[str, str]) -> Any:
    """The settings that weights depend on, with the content of files in place of their names."""
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    for section, names in NO_MATTER.items():
        for name in names:
            plain.get(section, {}).pop(name, None)
    return _named_by_content(plain, contents)


def _named_by_content(value: Any, contents: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _named_by_content(one, contents) for name, one in value.items()}
    if isinstance(value, list):
        return [_named_by_content(one, contents) for one in value]
    return contents.get(str(Path(value)), value) if isinstance(value, str) and value else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _without_length(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings but for when training ends: a longer training goes on from a shorter one."""
    shorter: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    shorter.pop("patience", None)
    for name in LENGTH:
        shorter["trainer"].pop(name, None)
    return shorter

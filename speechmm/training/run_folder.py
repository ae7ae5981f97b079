"""Tells what a run folder holds: a finished training, one to go on with, or one of other settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechmm.data.skips import SkipReport
from speechmm.files.atomic import write_text
from speechmm.files.stamps import make_stamp, read_current, write_record
from speechmm.models.bundle import WEIGHTS_FILE
from speechmm.training.callbacks.bundle_writer import BUNDLE

RECORD = "fit.json"
"""Of a finished training: its stamp, and what it left out."""
STARTED = "started.txt"
"""The stamp of the settings and data that the folder's checkpoints belong to."""
LENGTH = ("max_epochs", "max_steps", "max_time")
"""Settings of the trainer that say when training ends."""


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
        self._stamp = make_stamp(settings, inputs)
        self._start_stamp = make_stamp(_without_length(settings), inputs)

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
        write_text(self.path / STARTED, self._start_stamp + "\n")

    def finish(self, skipped: SkipReport, utterances: int) -> None:
        """Notes that the training has ended.

        Args:
            skipped: What was left out.
            utterances: How many could be used.
        """
        content = {"utterances": utterances, "skipped": skipped.to_dicts()}
        outputs = [self.path / BUNDLE / WEIGHTS_FILE]
        write_record(self.path / RECORD, self._stamp, content, outputs)


def _without_length(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings but for when training ends: a longer training goes on from a shorter one."""
    shorter: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    shorter.pop("patience", None)
    for name in LENGTH:
        shorter["trainer"].pop(name, None)
    return shorter

"""Parses Kerstin: one German woman reading 1,374 sentences; ``metadata.csv`` and ``wavs/``.

There is no official split: the last 100 ids are test and the 100 before them dev (a tenth each
when fewer than 1,000 are there).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.data.corpora.options import CHECK
from speechmm.data.skips import SkipReport
from speechmm.data.splits import hold_out_last
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ManifestError
from speechmm.files.text import read_lines

if TYPE_CHECKING:
    from lhotse import MonoCut

ABOUT = "Kerstin: one German woman reading"
OPTIONS = (CHECK,)

HELD_OUT = 100
SUFFIXES = (".flac", ".wav")


def prepare(root: Path, report: SkipReport, *, check: str = "full") -> dict[str, list[MonoCut]]:
    """Cuts of Kerstin; ``root`` holds ``metadata.csv`` (``id|text``) and ``wavs``."""
    table = root / "metadata.csv"
    if not table.is_file():
        raise ManifestError(f"{table}: not found; expected Kerstin's folder (metadata.csv, wavs).")
    utterances = []
    for number, line in read_lines(table):
        utterance_id, bar, text = (part.strip() for part in line.partition("|"))
        if not bar:
            report.add(f"{table.name}:{number}", f"found '{line}'; expected 'id|text'")
            continue
        candidates = [root / "wavs" / f"{utterance_id}{suffix}" for suffix in SUFFIXES]
        utterances.append(
            Utterance(
                id=utterance_id,
                audio=next((path for path in candidates if path.is_file()), candidates[0]),
                text=text,
                speaker="kerstin",
                language="de",
            )
        )
    return make_split_cuts(hold_out_last(utterances, HELD_OUT, 0.1), report, check=check)

"""Parses LJSpeech 1.1: one English woman reading 13,100 sentences; lhotse's recipe reads it.

The text is the normalized one (numbers and abbreviations written out). There is no official
split: as in ESPnet the last 250 ids are test and the 250 before them dev (a twentieth each of a
smaller part).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.data.corpora.options import CHECK
from speechmm.data.skips import SkipReport
from speechmm.data.splits import hold_out_last
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import AudioError, ManifestError
from speechmm.files.text import read_lines

if TYPE_CHECKING:
    from lhotse import MonoCut

ABOUT = "LJSpeech 1.1: one English woman reading"
OPTIONS = (CHECK,)

HELD_OUT = 250


def prepare(root: Path, report: SkipReport, *, check: str = "full") -> dict[str, list[MonoCut]]:
    """Cuts of LJSpeech; ``root`` is ``LJSpeech-1.1`` or its parent."""
    if not (root / "metadata.csv").is_file():
        root = root / "LJSpeech-1.1"
    table = root / "metadata.csv"
    if not table.is_file():
        raise ManifestError(
            f"{table}: not found; expected the unpacked LJSpeech-1.1 or its parent."
        )
    utterances = _read_with_lhotse(root, _usable_lines(root, report))
    return make_split_cuts(hold_out_last(utterances, HELD_OUT, 0.05), report, check=check)


def _usable_lines(root: Path, report: SkipReport) -> list[str]:
    """The lines lhotse's recipe can read: it stops at the first bad line or bad file."""
    from speechmm.audio.io import audio_info

    usable: dict[str, str] = {}
    for number, line in read_lines(root / "metadata.csv"):
        fields = line.strip().split("|")
        if len(fields) != 3:
            report.add(
                f"metadata.csv:{number}", f"found {len(fields)} fields; expected id|text|normalized"
            )
        elif fields[0] in usable:
            report.add(fields[0], f"metadata.csv:{number}: this id was on an earlier line")
        else:
            try:
                audio_info(root / "wavs" / f"{fields[0]}.wav")
                usable[fields[0]] = line.strip()
            except AudioError as error:
                report.add(fields[0], error)
    return list(usable.values())


def _read_with_lhotse(root: Path, lines: list[str]) -> list[Utterance]:
    from lhotse.recipes.ljspeech import prepare_ljspeech

    if not lines:
        return []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "metadata.csv").write_text("\n".join(lines) + "\n", "utf-8")
        (Path(folder) / "wavs").symlink_to((root / "wavs").absolute())
        supervisions = prepare_ljspeech(folder)["supervisions"]
    return [
        Utterance(
            id=supervision.id,
            audio=root / "wavs" / f"{supervision.id}.wav",
            text=supervision.custom["normalized_text"] or supervision.text,
            speaker="ljspeech",
            language="en",
        )
        for supervision in supervisions
    ]

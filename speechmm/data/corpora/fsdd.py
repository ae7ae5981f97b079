"""Parses the Free Spoken Digit Dataset: 3,000 English digits, ``{digit}_{speaker}_{index}.wav``.

Official split: index 0 to 4 is test, 5 to 49 is for training; of these, 5 to 9 are dev here
(never the test recordings). With ``leave_out`` a speaker's recordings are the test, index 0 to 4
of the other speakers dev, and the rest train: a test on a voice that was never heard.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.audio.files import find_audio
from speechmm.data.corpora.options import CHECK, Option
from speechmm.data.skips import SkipReport
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ConfigError, ManifestError

if TYPE_CHECKING:
    from lhotse import MonoCut

ABOUT = "Free Spoken Digit Dataset: English digits, six speakers"
OPTIONS = (
    Option(name="leave_out", metavar="SPEAKER", help="the test is all of this speaker"),
    CHECK,
)

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_INDICES = range(5)
DEV_INDICES = range(5, 10)
_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)")


def prepare(
    root: Path, report: SkipReport, *, leave_out: str | None = None, check: str = "full"
) -> dict[str, list[MonoCut]]:
    """Cuts of FSDD; ``root`` is the repository's folder or its ``recordings``."""
    recordings = root / "recordings" if (root / "recordings").is_dir() else root
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    speakers = set()
    for audio in find_audio(recordings):
        match = _NAME.fullmatch(audio.stem)
        if match is None:
            report.add(audio.name, f"{audio}: expected a name like 7_theo_13.wav")
            continue
        speakers.add(match["speaker"])
        utterance = Utterance(
            id=audio.stem,
            audio=audio,
            text=DIGITS[int(match["digit"])],
            speaker=match["speaker"],
            language="en",
        )
        splits[_split_of(match["speaker"], int(match["index"]), leave_out)].append(utterance)
    if not speakers:
        raise ManifestError(
            f"{recordings}: found no recording named like 7_theo_13.wav; expected FSDD's folder."
        )
    if leave_out is not None and leave_out not in speakers:
        known = ", ".join(sorted(speakers))
        raise ConfigError(
            f"--leave-out: no speaker is named '{leave_out}'; expected one of {known}."
        )
    return make_split_cuts(splits, report, check=check)


def _split_of(speaker: str, index: int, leave_out: str | None) -> str:
    if leave_out is not None:
        if speaker == leave_out:
            return "test"
        return "dev" if index in TEST_INDICES else "train"
    if index in TEST_INDICES:
        return "test"
    return "dev" if index in DEV_INDICES else "train"

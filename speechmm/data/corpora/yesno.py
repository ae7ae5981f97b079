"""Parses yesno (OpenSLR 1): 60 recordings of one man saying yes or no eight times in Hebrew.

The truth is in the file name (``1_0_0_1_...``, 1 is yes). As in Kaldi and icefall the first 30
sorted names are test and the last 30 train. There is no official dev: the final 5 of the training
recordings are taken for it, so that the test is never used for choosing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.audio.files import find_audio
from speechmm.data.corpora.options import CHECK
from speechmm.data.skips import SkipReport
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ManifestError

if TYPE_CHECKING:
    from lhotse import MonoCut

ABOUT = "OpenSLR 1: yes and no in Hebrew, one speaker"
OPTIONS = (CHECK,)

WORDS = {"0": "NO", "1": "YES"}
DEV_SHARE = 6  # one training recording in so many is dev: the final 5 of 30
_NAME = re.compile(r"[01](_[01])*")


def prepare(root: Path, report: SkipReport, *, check: str = "full") -> dict[str, list[MonoCut]]:
    """Cuts of yesno; ``root`` is ``waves_yesno`` or its parent."""
    folder = root / "waves_yesno" if (root / "waves_yesno").is_dir() else root
    utterances = []
    for audio in sorted(find_audio(folder), key=lambda path: path.name):
        if _NAME.fullmatch(audio.stem) is None:
            report.add(audio.name, f"{audio}: expected a name like 1_0_0_1_0_1_1_0.wav")
            continue
        text = " ".join(WORDS[digit] for digit in audio.stem.split("_"))
        utterances.append(
            Utterance(id=audio.stem, audio=audio, text=text, speaker="yesno", language="he")
        )
    if not utterances:
        raise ManifestError(
            f"{folder}: found no recording named like 1_0_0_1_0_1_1_0.wav; expected waves_yesno."
        )
    half = len(utterances) // 2
    test, training = utterances[:half], utterances[half:]
    first_dev = len(training) - max(1, len(training) // DEV_SHARE)
    splits = {"train": training[:first_dev], "dev": training[first_dev:], "test": test}
    return make_split_cuts(splits, report, check=check)

"""Parses CMU AN4: 948 + 130 spelled names, numbers, census answers and short commands.

Layout of the official archive: ``an4/etc/an4_{train,test}.{fileids,transcription}`` and
``an4/wav/an4_clstk/<speaker>/<utterance>.sph``; FLAC and WAV are found as well. As in Kaldi's and
ESPnet's recipes, dev is the first 100 training utterances in the order of speaker-utterance ids
(``fash-an251-b`` for ``an251-fash-b``), so that one speaker is in both dev and train.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from speechmm.data.corpora.options import CHECK
from speechmm.data.skips import SkipReport
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ManifestError
from speechmm.files.text import read_lines

if TYPE_CHECKING:
    from lhotse import MonoCut

ABOUT = "CMU AN4: spelled names, numbers and short commands, 84 speakers"
OPTIONS = (CHECK,)

DEV_UTTERANCES = 100
SUFFIXES = (".flac", ".sph", ".wav")
_MARKER = re.compile(r"</?s>|<sil>", re.IGNORECASE)


def prepare(root: Path, report: SkipReport, *, check: str = "full") -> dict[str, list[MonoCut]]:
    """Cuts of AN4 in train, dev and test; ``root`` is the an4 folder or its parent."""
    root = _find_root(root)
    training = _read_part(root, "train", report)
    dev_ids = {u.id for u in sorted(training, key=_speaker_first)[:DEV_UTTERANCES]}
    splits = {
        "train": [u for u in training if u.id not in dev_ids],
        "dev": [u for u in training if u.id in dev_ids],
        "test": _read_part(root, "test", report),
    }
    return make_split_cuts(splits, report, check=check)


def _find_root(root: Path) -> Path:
    for folder in (root, root / "an4"):
        if (folder / "etc" / "an4_train.fileids").is_file():
            return folder
    raise ManifestError(
        f"{root}: found no etc/an4_train.fileids; expected the unpacked an4 folder or its parent."
    )


def _speaker_first(utterance: Utterance) -> str:
    """``an251-fash-b`` as Kaldi names it: ``fash-an251-b``."""
    first, _, rest = utterance.id.partition("-")
    speaker, _, last = rest.rpartition("-")
    return f"{speaker}-{first}-{last}"


def _read_part(root: Path, part: str, report: SkipReport) -> list[Utterance]:
    texts = _read_transcription(root / "etc" / f"an4_{part}.transcription", report)
    utterances = []
    for _, line in read_lines(root / "etc" / f"an4_{part}.fileids"):
        file_id = PurePosixPath(line.strip())
        if file_id.name not in texts:
            report.add(file_id.name, f"it has no line in an4_{part}.transcription")
            continue
        utterances.append(
            Utterance(
                id=file_id.name,
                audio=_find_audio(root / "wav" / file_id),
                text=texts.pop(file_id.name),
                speaker=file_id.parent.name,
                language="en",
            )
        )
    for utterance_id in texts:
        report.add(utterance_id, f"it has no line in an4_{part}.fileids")
    return utterances


def _read_transcription(path: Path, report: SkipReport) -> dict[str, str]:
    from speechmm.alignments.trn_stm import parse_trn_line

    texts = {}
    for number, line in read_lines(path):
        row = parse_trn_line(line)
        if row is None:
            report.add(f"{path.name}:{number}", f"found '{line.strip()}'; expected 'TEXT (id)'")
            continue
        id, text = row
        texts[id.strip()] = " ".join(_MARKER.sub(" ", text).split())
    return texts


def _find_audio(stem: Path) -> Path:
    """The recording, whatever its format; a missing one is named as the official archive does."""
    candidates = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    return next((path for path in candidates if path.is_file()), candidates[1])

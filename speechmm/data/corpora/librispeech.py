"""Parses LibriSpeech and Mini LibriSpeech: English audiobooks, read by lhotse's recipe.

train is all ``train-*`` that are there, dev ``dev-clean`` and test ``test-clean``; ``dev-other``
and ``test-other`` become splits of these names. Mini LibriSpeech has no test: its ``dev-clean-2``
is the test, as in Kaldi, and a tenth of the training speech, by speaker, becomes dev.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.data.corpora.options import CHECK
from speechmm.data.skips import SkipReport, named_failure
from speechmm.data.splits import draw_missing
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ManifestError
from speechmm.files.text import read_lines

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.supervision import AlignmentItem

logger = logging.getLogger(__name__)

ABOUT = "LibriSpeech and Mini LibriSpeech: English audiobooks"
OPTIONS = (CHECK,)

DRAWN_DEV = 0.1  # share of the training seconds


def prepare(root: Path, report: SkipReport, *, check: str = "full") -> dict[str, list[MonoCut]]:
    """Cuts of LibriSpeech; ``root`` is the folder ``LibriSpeech`` or its parent."""
    if (root / "LibriSpeech").is_dir():
        root = root / "LibriSpeech"
    splits = {
        split: [u for part in parts for u in _read_part(root, part, report)]
        for split, parts in _assign_parts(root).items()
    }
    cuts = make_split_cuts(splits, report, check=check)
    return draw_missing(cuts, dev=DRAWN_DEV, test=0.0, seed=0)


def _assign_parts(root: Path) -> dict[str, list[str]]:
    from lhotse.recipes.librispeech import LIBRISPEECH, MINI_LIBRISPEECH

    parts = [part for part in (*LIBRISPEECH, *MINI_LIBRISPEECH) if (root / part).is_dir()]
    splits = {"train": [part for part in parts if part.startswith("train-")]}
    dev = [part for part in parts if part in ("dev-clean", "dev-clean-2")][:1]
    if "test-clean" in parts:
        splits["test"] = ["test-clean"]
        if dev:
            splits["dev"] = dev
    elif dev:
        logger.info("%s is the test, since there is no test-clean", dev[0])
        splits["test"] = dev
    if not splits["train"] or "test" not in splits:
        raise ManifestError(
            f"{root}: found {', '.join(parts) or 'no part of LibriSpeech'}; expected one or more "
            "of train-clean-100, train-clean-360, train-other-500 or train-clean-5; and test-clean,"
            " dev-clean or dev-clean-2. Unpack them side by side."
        )
    splits |= {part: [part] for part in parts if part in ("dev-other", "test-other")}
    return splits


def _read_part(root: Path, part: str, report: SkipReport) -> list[Utterance]:
    return [
        utterance
        for transcript in sorted((root / part).rglob("*.trans.txt"))
        for utterance in _read_chapter(root / part, transcript, report)
    ]


def _read_chapter(part: Path, transcript: Path, report: SkipReport) -> list[Utterance]:
    from lhotse.recipes.librispeech import parse_alignments

    name = transcript.name.removesuffix(".trans.txt")
    aligned = transcript.with_name(f"{name}.alignment.txt")
    try:
        alignments = parse_alignments(aligned) if aligned.is_file() else {}
    except Exception as error:  # lhotse takes lines as they come: anything may happen
        reason = f"no times of words ({type(error).__name__}: {error}); expected id, words and ends"
        report.add(aligned.name, reason)
        alignments = {}
    utterances = []
    for number, line in read_lines(transcript):
        try:
            utterances.append(_read_line(part, line, alignments))
        except Exception as error:
            failure = named_failure(transcript.name, error)
            report.add(line.split(maxsplit=1)[0], f"{transcript.name}:{number}: {failure}")
    return utterances


def _read_line(part: Path, line: str, alignments: dict[str, list[AlignmentItem]]) -> Utterance:
    from lhotse.recipes.librispeech import parse_utterance

    from speechmm.audio.io import audio_info

    name, *text = line.split(maxsplit=1)
    if not text:
        raise ManifestError("the transcript is empty")
    audio = part / Path(name.replace("-", "/")).parent / f"{name}.flac"
    audio_info(audio)  # says better than lhotse what is wrong
    found = parse_utterance(part, line, alignments)
    if found is None:
        raise ManifestError(f"{audio}: lhotse does not find it; expected LibriSpeech's folders")
    recording, supervision = found
    words = (supervision.alignment or {}).get("word", [])
    return Utterance(
        id=supervision.id,
        audio=Path(recording.sources[0].source),
        text=supervision.text,
        speaker=supervision.speaker,
        language="en",
        alignment={"word": [word for word in words if word.symbol]} if words else None,
    )

"""Parses LibriSpeech, Mini LibriSpeech and any parts under their layout: English audiobooks.

A part is a folder ``train-*``, ``dev-*`` or ``test-*``; its audio has any suffix that can be read. train is
all ``train-*``; ``test-clean`` or else the first other ``test-*`` is test, ``dev-clean`` or else the first
other ``dev-*`` is dev; the rest become splits of their own names, such as ``test-other``. Where there is
no ``test-*`` (Mini LibriSpeech), dev is the test, as in Kaldi. What is missing then, dev or both, is drawn
from the training speech, by speaker.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.audio.files import audio_among, unreadable_among
from speechmm.data.corpora.options import CHECK, DRAWN_SPLITS
from speechmm.data.skips import SkipReport, named_failure
from speechmm.data.splits import draw_missing
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ManifestError
from speechmm.files.text import read_lines
from speechmm.files.tree import list_files

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.supervision import AlignmentItem

ABOUT = "LibriSpeech and Mini LibriSpeech: English audiobooks"
OPTIONS = (*DRAWN_SPLITS, CHECK)

_TRANSCRIPT = ".trans.txt"
_FIRST = ("test-clean", "dev-clean", "dev-clean-2")
_LAST = ("test-other", "dev-other")


def prepare(
    root: Path,
    report: SkipReport,
    *,
    dev: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    check: str = "full",
) -> dict[str, list[MonoCut]]:
    """Cuts of LibriSpeech.

    Args:
        root: The folder ``LibriSpeech`` or its parent.
        report: Where utterances that cannot be used are named, and what was drawn.
        dev: Share of train's seconds to take for dev where no part is it.
        test: Likewise.
        seed: Another seed draws others.
        check: "full" decodes every recording, "header" opens it.

    Raises:
        ManifestError: There is no part.
    """
    if (root / "LibriSpeech").is_dir():
        root = root / "LibriSpeech"
    splits = {
        split: [u for part in parts for u in _read_part(root / part, report)]
        for split, parts in _assign_parts(root, report).items()
    }
    cuts = make_split_cuts(splits, report, check=check)
    if not cuts.get("train"):
        return cuts
    return draw_missing(cuts, report, dev=dev, test=test, seed=seed)


def _assign_parts(root: Path, report: SkipReport) -> dict[str, list[str]]:
    """Which parts each split is made of.

    Raises:
        ManifestError: There is none.
    """
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    train, dev, test = (_parts(folders, kind) for kind in ("train", "dev", "test"))
    others = set(folders) - {*train, *dev, *test}
    unknown = [name for name in sorted(others) if any((root / name).rglob(f"*{_TRANSCRIPT}"))]
    if not (train or dev or test):
        raise ManifestError(
            f"{root}: found {', '.join(unknown) or 'no part of LibriSpeech'}; expected folders whose names "
            "begin with train-, dev- or test-, such as train-clean-5. Give the folder they lie in."
        )
    if unknown:
        report.remark(
            f"left out: {', '.join(unknown)} (no part's name: these begin with train-, dev-, test-)"
        )
    if not test and dev:
        report.remark(f"{dev[0]} is the test, since there is no test part")
        test, dev, rest = dev[:1], [], dev[1:]
    else:
        test, dev, rest = test[:1], dev[:1], test[1:] + dev[1:]
    if not train:
        report.remark("there is no train part: nothing to train on, only to measure")
    named = {"train": train, "dev": dev, "test": test} | {part: [part] for part in rest}
    return {split: parts for split, parts in named.items() if parts}


def _parts(folders: list[str], kind: str) -> list[str]:
    """Those of a kind, the one that is meant where nothing else is said first."""
    found = [name for name in folders if name.startswith(f"{kind}-")]

    def rank(name: str) -> int:
        return _FIRST.index(name) if name in _FIRST else len(_FIRST) + (name in _LAST)

    return sorted(found, key=rank)


def _read_part(part: Path, report: SkipReport) -> list[Utterance]:
    return [
        utterance
        for transcript in sorted(part.rglob(f"*{_TRANSCRIPT}"))
        for utterance in _read_chapter(transcript, report)
    ]


def _read_chapter(transcript: Path, report: SkipReport) -> list[Utterance]:
    from lhotse.recipes.librispeech import parse_alignments

    name = transcript.name.removesuffix(_TRANSCRIPT)
    aligned = transcript.with_name(f"{name}.alignment.txt")
    try:
        alignments = parse_alignments(aligned) if aligned.is_file() else {}
    except Exception as error:  # lhotse takes lines as they come: anything may happen
        reason = f"no times of words ({type(error).__name__}: {error}); expected id, words and ends"
        report.add(aligned.name, reason)
        alignments = {}
    files = list_files(transcript.parent)
    audio = {path.stem: path for path in reversed(audio_among(files))}  # of several, the first
    unreadable = {path.stem: error for path, error in unreadable_among(files).items()}
    utterances = []
    for number, line in read_lines(transcript):
        stem = line.split(maxsplit=1)[0]
        try:
            if stem in unreadable and stem not in audio:
                raise unreadable[stem]
            path = audio.get(stem, transcript.with_name(f"{stem}.flac"))
            utterances.append(_read_line(line, path, alignments))
        except Exception as error:
            failure = named_failure(transcript.name, error)
            report.add(stem, f"{transcript.name}:{number}: {failure}")
    return utterances


def _read_line(line: str, audio: Path, alignments: dict[str, list[AlignmentItem]]) -> Utterance:
    from speechmm.audio.io import audio_info

    name, *text = line.split(maxsplit=1)
    if not text:
        raise ManifestError("the transcript is empty")
    audio_info(audio)  # its error names the line of the transcript
    words = alignments.get(name, [])
    return Utterance(
        id=name,
        audio=audio,
        text=text[0].strip(),
        speaker=name.partition("-")[0],
        language="en",
        alignment={"word": [word for word in words if word.symbol]} if words else None,
    )

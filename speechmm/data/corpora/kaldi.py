"""Parses Kaldi data folders: ``wav.scp``, ``text``, optional ``utt2spk`` and ``segments``.

``root`` holds train, dev and test (or names alike: ``valid``, ``eval``, ...), or is one data
folder itself. Where there is no dev or no test, it is taken out of train. No command of a
``wav.scp`` is ever run (see `kaldi_pipes`).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from speechmm.data.corpora.kaldi_pipes import PipeError, decoded_file, picked_channel
from speechmm.data.corpora.options import CHECK, DRAWN_SPLITS, LANGUAGE
from speechmm.data.skips import SkipReport
from speechmm.data.splits import SPLIT_NAMES, draw_missing
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ManifestError
from speechmm.files.text import read_lines

if TYPE_CHECKING:
    from lhotse import MonoCut

ABOUT = "Kaldi data folders"
OPTIONS = (*DRAWN_SPLITS, LANGUAGE, CHECK)

logger = logging.getLogger(__name__)


class KaldiSegment(NamedTuple):
    """Where an utterance lies: a line of ``segments``."""

    recording: str
    """Its key in ``wav.scp``."""
    start: float = 0.0
    """Seconds."""
    duration: float | None = None
    """Seconds; None reaches to the end of the recording."""
    channel: int | None = None
    """Counted from 0; None where the line does not say."""


def prepare(
    root: Path,
    report: SkipReport,
    *,
    dev: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    language: str | None = None,
    check: str = "full",
) -> dict[str, list[MonoCut]]:
    """Cuts of the data folders in ``root``.

    Args:
        root: Holds the data folders, or is one.
        report: Where utterances that cannot be used are named.
        dev: Share of train's seconds to take for dev when there is no such folder, 0 for none.
        test: Likewise.
        seed: Another seed draws others.
        language: Code of the language.
        check: "full" decodes every recording, "header" opens it.
    """
    root = root.absolute()
    folders = _find_folders(root)
    splits = {
        split: _read_folder(folder, root, language, report) for split, folder in folders.items()
    }
    cuts = make_split_cuts(splits, report, check=check)
    if not cuts["train"]:
        return cuts
    return draw_missing(cuts, report, dev=dev, test=test, seed=seed)


def _find_folders(root: Path) -> dict[str, Path]:
    """The data folder of every split: of its name, or the only one whose name begins so."""
    if (root / "wav.scp").is_file():
        return {"train": root}
    folders = sorted(path.parent for path in root.glob("*/wav.scp"))
    found: dict[str, Path] = {}
    for split in ("train", "dev", "test"):
        by_name = [path for path in folders if path.name == split]
        by_alias = [path for path in folders if SPLIT_NAMES.get(path.name.lower()) == split]
        by_prefix = [path for path in folders if _split_of(path.name) == split]
        for candidates in (by_name, by_alias, by_prefix):
            if len(candidates) == 1:
                found[split] = candidates[0]
                break
    others = [path.name for path in folders if path not in found.values()]
    if "train" not in found:
        listed = ", ".join(path.name for path in folders) or "none"
        raise ManifestError(
            f"{root}: found the data folders: {listed}; expected train, dev and test, each with a "
            "wav.scp and a text. Rename the folders, or give their parent."
        )
    if others:
        logger.warning("data folders not used: %s", ", ".join(others))
    return found


def _split_of(name: str) -> str:
    """``train_clean_100`` is train, ``test93`` is test, ``train_dev`` is dev."""
    plain = name.lower().replace("train_dev", "dev")
    return SPLIT_NAMES.get(re.split(r"[-_.\d]", plain, maxsplit=1)[0], "")


def _read_folder(
    folder: Path, root: Path, language: str | None, report: SkipReport
) -> list[Utterance]:
    texts = _read_map(folder / "text", report, may_be_empty=True)
    recordings = _read_map(folder / "wav.scp", report)
    speakers = {}
    if (folder / "utt2spk").is_file():
        speakers = _read_map(folder / "utt2spk", report)
    segments = _read_segments(folder, recordings, report)
    utterances = []
    for utterance_id, text in texts.items():
        if utterance_id not in segments:
            report.add(utterance_id, f"{folder / 'text'}: {_nowhere(folder)}")
            continue
        segment = segments[utterance_id]
        try:
            audio = _find_audio(recordings[segment.recording], folder, root)
            channel = _channel(recordings[segment.recording], segment)
        except PipeError as error:
            report.add(utterance_id, f"{folder / 'wav.scp'}: {error}")
            continue
        utterances.append(
            Utterance(
                id=utterance_id,
                audio=audio,
                text=text,
                speaker=speakers.get(utterance_id) or None,
                language=language,
                start=segment.start,
                duration=segment.duration,
                channel=channel,
            )
        )
    for utterance_id in segments.keys() - texts.keys():
        report.add(utterance_id, f"{folder / 'text'}: has no line for it; expected its transcript")
    return utterances


def _nowhere(folder: Path) -> str:
    name = "segments" if (folder / "segments").is_file() else "wav.scp"
    return f"is not in {name}; expected its audio there"


def _read_map(path: Path, report: SkipReport, *, may_be_empty: bool = False) -> dict[str, str]:
    """A file of ``key value...``; of lines with one key the first counts."""
    entries: dict[str, str] = {}
    for number, line in read_lines(path):
        key, *rest = line.split(maxsplit=1)
        if key in entries:
            report.add(key, f"{path}:{number}: was on an earlier line; expected one line an id")
        elif not rest and not may_be_empty:
            report.add(key, f"{path}:{number}: found the id alone; expected a value after it")
        else:
            entries[key] = rest[0].strip() if rest else ""
    return entries


def _read_segments(
    folder: Path, recordings: dict[str, str], report: SkipReport
) -> dict[str, KaldiSegment]:
    path = folder / "segments"
    if not path.is_file():
        return {key: KaldiSegment(key) for key in recordings}
    segments = {}
    for key, value in _read_map(path, report).items():
        try:
            recording, start, end, *more = value.split()
            times = float(start), float(end)
            channel = int(more[0]) if more else -1
            if len(more) > 1 or channel < -1:
                raise ValueError(value)
        except ValueError:
            report.add(
                key,
                f"{path}: found '{value}'; expected 'recording start end', in "
                "seconds, and perhaps a channel from 0 on",
            )
            continue
        if recording not in recordings:
            report.add(key, f"{path}: its recording '{recording}' is not in wav.scp")
            continue
        duration = None if times[1] == -1 else times[1] - times[0]
        segments[key] = KaldiSegment(
            recording, times[0], duration, channel if channel >= 0 else None
        )
    return segments


def _find_audio(entry: str, folder: Path, root: Path) -> Path:
    """The file of a ``wav.scp`` entry; relative to the folder, its parents or where we are.

    Raises:
        PipeError: The entry is not one file, or not one that can be read without running a command.
    """
    path = Path(decoded_file(entry))
    bases = (folder, root, *root.parents[:2], Path.cwd())
    return next((base / path for base in bases if (base / path).is_file()), folder / path)


def _channel(entry: str, segment: KaldiSegment) -> int | None:
    """The channel of an utterance: that of its segment, or the one its recording's command picks."""
    picked = picked_channel(entry)
    if picked is None:
        return segment.channel
    if segment.channel not in (None, 0):
        raise PipeError(
            f"found '{entry}', which has one channel, and channel {segment.channel} in segments; "
            "expected 0"
        )
    return picked

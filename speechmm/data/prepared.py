"""Writes what ``prepare`` makes: a manifest for every split, archives if wanted, and ``prepare.json``.

``prepare.json`` also tells a rerun whether anything has changed since.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from speechmm import __version__
from speechmm.audio.media_extra import media_installed
from speechmm.data.manifest import write_cuts
from speechmm.data.skips import SkippedItem, SkipReport
from speechmm.data.splits import require_utterances
from speechmm.data.waveforms import audio_path
from speechmm.files.atomic import is_plain_name, write_aside, write_folder_aside
from speechmm.files.json_text import SKIPPED, fits
from speechmm.files.leftovers import remove
from speechmm.files.shar import is_shar
from speechmm.files.stamps import (
    Record,
    is_current,
    make_stamp,
    output_names,
    read_record,
    remove_record,
    write_record,
)
from speechmm.files.tree import list_files

if TYPE_CHECKING:
    from lhotse import MonoCut

FORMAT = "speechmm-prepare/4"
REPORT_NAME = "prepare.json"
_MANIFEST = ".jsonl.gz"
_SHAR = ".shar"

_SHAPE = {
    "splits": {str: {"utterances": int, "hours": float, "speakers": int}},
    "skipped": SKIPPED,
    "remarks": [str],
    "elsewhere": [str],
}


class SplitSummary(TypedDict):
    """What one split holds."""

    utterances: int
    hours: float
    speakers: int
    """0 when they are not known."""


class PreparedCorpus(TypedDict):
    """``prepare.json``."""

    format: str
    version: str
    """Of speechmm."""
    splits: dict[str, SplitSummary]
    skipped: list[SkippedItem]
    remarks: list[str]
    """What else there is to know, such as which splits were drawn from train, and how."""
    settings: dict[str, Any]
    """The corpus, its folder and the options it was prepared with."""
    elsewhere: list[str]
    """Tables, and folders of audio, that lie outside the corpus."""
    stamp: str
    """Digest of settings and inputs."""
    outputs: dict[str, int]
    """Size of each manifest, and of each file of a Shar folder, in bytes."""


def write_corpus(
    splits: dict[str, list[MonoCut]],
    out: Path,
    report: SkipReport,
    *,
    settings: dict[str, Any],
    source: Path,
    extra: Iterable[Path] = (),
    shar: int | None = None,
) -> PreparedCorpus:
    """Writes ``out/<split>.jsonl.gz``, all aside and renamed together, then ``out/prepare.json``.

    With ``shar`` also ``out/<split>.shar``, a folder of lhotse Shar.

    Args:
        splits: Split name to its cuts.
        out: Folder, made when it is not there.
        report: The utterances that are in no split.
        settings: All that decides about the result, ready for JSON.
        source: Folder whose files the corpus was made from.
        extra: Files outside that folder that it was made from, too.
        shar: Utterances in an archive; None for no archives. Those that turn out unreadable are
            reported and left out of the manifest, too.
    """
    record_path = out / REPORT_NAME
    previous = read_record(record_path)
    elsewhere = _elsewhere(splits, source, extra)
    stamp = _stamp(settings, source, out, elsewhere)
    folders = [out / f"{split}{_SHAR}" for split in splits] if shar else []
    with ExitStack() as stack:
        if shar:
            splits = _write_shar(splits, out, shar, report, stack)
            require_utterances(splits, report, str(source))
        manifests = {out / f"{split}{_MANIFEST}": cuts for split, cuts in splits.items()}
        for path, cuts in manifests.items():
            write_cuts(cuts, stack.enter_context(write_aside(path, ours=True)))
        remove_record(record_path)  # before the first manifest is replaced
    content = {
        "format": FORMAT,
        "version": __version__,
        "splits": {split: _describe(cuts) for split, cuts in splits.items()},
        "skipped": report.to_dicts(),
        "remarks": report.remarks,
        "settings": settings,
        "elsewhere": [str(path) for path in elsewhere],
    }
    outputs = [*manifests, *(file for folder in folders for file in folder.iterdir())]
    record = write_record(record_path, stamp, content, outputs)
    for name in output_names(previous) - {path.name for path in manifests}:
        if name.endswith(_MANIFEST):
            (out / name).unlink(missing_ok=True)
    for name in _shar_names(previous) - {folder.name for folder in folders}:
        if is_shar(out / name):
            remove(out / name)
    return cast(PreparedCorpus, record)


def _shar_names(record: Record) -> set[str]:
    """The folders of lhotse Shar, in its own folder, that a record names."""
    outputs = record.get("outputs")
    names = {Path(name).parent.name for name in outputs} if isinstance(outputs, dict) else set()
    return {name for name in names if is_plain_name(name) and name.endswith(_SHAR)}


def _write_shar(
    splits: dict[str, list[MonoCut]], out: Path, size: int, report: SkipReport, stack: ExitStack
) -> dict[str, list[MonoCut]]:
    """Writes the folders aside, to be put in their places with the stack; what is in them."""
    from speechmm.data.shar_writing import FIRST_FILE, write_shar

    written = {}
    for split, cuts in splits.items():
        aside = stack.enter_context(write_folder_aside(out / f"{split}{_SHAR}", mark=FIRST_FILE))
        written[split] = write_shar(cuts, aside, size, report)
    return written


def read_unchanged(
    out: Path, *, settings: dict[str, Any], source: Path, strict: bool
) -> PreparedCorpus | None:
    """What ``prepare.json`` holds, when its manifests still say what a new run would; else None.

    Utterances that were skipped are looked at again when their audio may lie outside ``source``,
    or when ``strict`` makes them fatal.
    """
    record = read_record(out / REPORT_NAME)
    if record.get("format") != FORMAT or not source.is_dir():
        return None
    if not fits(record, _SHAPE):
        return None
    elsewhere = [Path(path) for path in record["elsewhere"]]
    if record["skipped"] and (strict or elsewhere or settings["corpus"] == "kaldi"):
        return None
    stamp = _stamp(settings, source, out, elsewhere)
    return cast(PreparedCorpus, record) if is_current(record, stamp, out) else None


def _describe(cuts: list[MonoCut]) -> SplitSummary:
    speakers = {s.speaker for cut in cuts for s in cut.supervisions if s.speaker}
    return {
        "utterances": len(cuts),
        "hours": round(sum(cut.duration for cut in cuts) / 3600, 6),
        "speakers": len(speakers),
    }


def _elsewhere(splits: dict[str, list[MonoCut]], source: Path, extra: Iterable[Path]) -> list[Path]:
    """Files, and folders of audio, outside ``source``."""
    folders = {audio_path(cut).parent for cuts in splits.values() for cut in cuts}
    return sorted(path for path in {*folders, *extra} if not path.is_relative_to(source))


def _stamp(settings: dict[str, Any], source: Path, out: Path, elsewhere: Iterable[Path]) -> str:
    files = list_files(source, leave_out=out)
    for path in elsewhere:
        files += [p for p in path.iterdir() if p.is_file()] if path.is_dir() else [path]
    known = {"version": __version__, "media": media_installed(), **settings}
    return make_stamp(known, files)

"""What `prepare` writes: a manifest for every split, and ``prepare.json``.

``prepare.json`` also tells a rerun whether anything has changed since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechmm import __version__
from speechmm.data.manifest import audio_path, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.files.atomic import write_aside
from speechmm.files.tree import fingerprint, list_files

if TYPE_CHECKING:
    from lhotse import MonoCut

FORMAT = "speechmm-prepare/1"
REPORT_NAME = "prepare.json"


def write_corpus(
    splits: dict[str, list[MonoCut]],
    out: Path,
    report: SkipReport,
    *,
    settings: dict[str, Any],
    source: Path,
    extra: Iterable[Path] = (),
) -> dict[str, Any]:
    """Write ``out/<split>.jsonl.gz`` and ``out/prepare.json``, all aside, then renamed together.

    Args:
        splits: Split name to its cuts.
        out: Folder, made when it is not there.
        report: The utterances that are in no split.
        settings: All that decides about the result, ready for JSON.
        source: Folder whose files the corpus was made from.
        extra: Files outside that folder that it was made from, too.

    Returns:
        What ``prepare.json`` holds.
    """
    previous = _read(out / REPORT_NAME)
    elsewhere = _elsewhere(splits, source, extra)
    names = {split: out / f"{split}.jsonl.gz" for split in splits}
    summary = {
        "format": FORMAT,
        "version": __version__,
        "splits": {split: _describe(cuts) for split, cuts in splits.items()},
        "skipped": report.to_dicts(),
        "settings": settings,
        "inputs": {
            "fingerprint": _stamp(source, out, elsewhere),
            "elsewhere": [str(path) for path in elsewhere],
        },
    }
    with ExitStack() as stack:  # left in reverse order: prepare.json is renamed last
        json_aside = stack.enter_context(write_aside(out / REPORT_NAME))
        sizes = {}
        for split, path in names.items():
            aside = stack.enter_context(write_aside(path))
            write_cuts(splits[split], aside)
            sizes[path.name] = aside.stat().st_size
        summary["outputs"] = sizes
        text = json.dumps(summary, ensure_ascii=False, indent=1)
        json_aside.write_text(text + "\n", "utf-8", "backslashreplace")
    for name in previous.get("outputs", {}):
        if name not in sizes:
            (out / name).unlink(missing_ok=True)
    return summary


def read_unchanged(
    out: Path, *, settings: dict[str, Any], source: Path, strict: bool
) -> dict[str, Any] | None:
    """What ``prepare.json`` holds, when its manifests still say what a new run would; else None.

    Utterances that were skipped are looked at again when their audio may lie outside ``source``,
    or when ``strict`` makes them fatal.
    """
    summary = _read(out / REPORT_NAME)
    if summary.get("format") != FORMAT or summary.get("version") != __version__:
        return None
    if summary["settings"] != settings:
        return None
    elsewhere = [Path(path) for path in summary["inputs"]["elsewhere"]]
    if summary["skipped"] and (strict or elsewhere or settings["corpus"] == "kaldi"):
        return None
    for name, size in summary["outputs"].items():
        if not (out / name).is_file() or (out / name).stat().st_size != size:
            return None
    current = source.is_dir() and _stamp(source, out, elsewhere)
    return summary if current == summary["inputs"]["fingerprint"] else None


def check_writable(out: Path) -> None:
    """Find out before the work whether its result can be written.

    Raises:
        ManifestError: The folder cannot be made or written to.
        ConfigError: ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; expected a folder for the output. Choose another.")
    probe = out / f"probe-{os.getpid()}"
    with write_aside(probe) as aside:
        aside.write_bytes(b"")
    probe.unlink()


def _describe(cuts: list[MonoCut]) -> dict[str, Any]:
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


def _stamp(source: Path, out: Path, elsewhere: Iterable[Path]) -> str:
    files = list_files(source, leave_out=out)
    for path in elsewhere:
        files += sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return fingerprint(files)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

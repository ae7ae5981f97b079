"""Text files beside recordings: ``a.wav`` with ``a.txt`` or ``a.lab``, or in two trees."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from speechmm.data.skips import SkipReport
from speechmm.data.transcripts.audio_lookup import make_ids, name_parts
from speechmm.data.utterances import Utterance
from speechmm.errors import ManifestError
from speechmm.files.text import read_text

TRANSCRIPT_SUFFIXES = (".txt", ".lab")
_NO_TRANSCRIPTS = frozenset(
    [
        "readme",
        "license",
        "licence",
        "copying",
        "changelog",
        "changes",
        "authors",
        "notes",
        "about",
        "info",
        "speakers",
    ]
)


def is_transcript(path: Path) -> bool:
    """Whether the file is text that may be what one recording says."""
    return path.suffix.lower() in TRANSCRIPT_SUFFIXES and path.stem.lower() not in _NO_TRANSCRIPTS


def pair_files(files: list[Path], audio: list[Path]) -> dict[Path, Path]:
    """The transcript of every recording that has one.

    It has the recording's name and lies in its folder; or anywhere, if no other recording and no
    other transcript has the name.
    """
    texts = [path for path in files if is_transcript(path)]
    texts.sort(key=lambda path: TRANSCRIPT_SUFFIXES.index(path.suffix.lower()))
    beside: dict[tuple[Path, str], Path] = {}
    by_name: dict[str, list[Path]] = {}
    for path in texts:
        beside.setdefault((path.parent, _name(path)), path)
        by_name.setdefault(_name(path), []).append(path)
    audio_names = Counter(_name(path) for path in {path.with_suffix("") for path in audio})
    pairs = {}
    for path in audio:
        name = _name(path)
        alone = by_name.get(name, []) if audio_names[_name(path.with_suffix(""))] == 1 else []
        found = beside.get((path.parent, name)) or (alone[0] if len(alone) == 1 else None)
        if found is not None:
            pairs[path] = found
    return pairs


def read_sidecars(
    root: Path, files: list[Path], audio: list[Path], report: SkipReport
) -> list[Utterance]:
    """The recordings with their transcripts; those without, and transcripts alone, are reported."""
    pairs = pair_files(files, audio)
    ids = make_ids(audio)
    utterances = []
    for path in audio:
        if path not in pairs:
            report.add(
                path.relative_to(root).as_posix(),
                f"{path}: has no transcript; expected {path.stem}.txt or {path.stem}.lab beside it",
            )
            continue
        try:
            text = read_text(pairs[path])
        except ManifestError as error:
            report.add(path.relative_to(root).as_posix(), error)
            continue
        utterances.append(Utterance(id=ids[path], audio=path, text=text))
    used = set(pairs.values())
    twins = {(path.parent, _name(path)) for path in used}
    folders = {path.parent for path in used | set(audio)}
    for path in files:
        alone = path not in used and (path.parent, _name(path)) not in twins
        if alone and is_transcript(path) and path.parent in folders:
            report.add(path.relative_to(root).as_posix(), f"{path}: there is no audio of this name")
    return utterances


def _name(path: Path) -> str:
    if path.suffix.lower() in TRANSCRIPT_SUFFIXES:
        path = path.with_suffix("")
        return name_parts(f"{path.name}.wav")[-1]
    return name_parts(path.name)[-1]

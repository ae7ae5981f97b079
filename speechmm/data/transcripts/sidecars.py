"""Finds texts in files of their own: ``a.wav`` with ``a.txt``, ``a.lab`` or ``a.wav.txt``.

Case and Unicode form of a name do not matter. The text lies beside the recording, or anywhere in the
corpus where no other text has its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from speechmm.audio.files import unreadable_among
from speechmm.data.ids import make_ids
from speechmm.data.skips import SkipReport
from speechmm.data.transcripts.audio_lookup import name_parts
from speechmm.data.utterances import Utterance
from speechmm.errors import ManifestError
from speechmm.files.text import read_text

TRANSCRIPT_SUFFIXES = (".txt", ".lab")
_NO_TRANSCRIPTS = frozenset((
    "readme", "license", "licence", "copying", "changelog", "changes", "authors", "notes", "about",
    "info", "speakers",
))  # fmt: skip
"""Names of texts about a corpus, unless a recording beside them has that name."""


def pair_files(files: list[Path], audio: list[Path]) -> dict[Path, Path]:
    """The text file of every recording that has one.

    Args:
        files: All files of the corpus.
        audio: The recordings among them.
    """
    folders: dict[Path, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for path in filter(_is_text, files):
        folders.setdefault(path.parent, []).append(path)
        if is_transcript(path):
            by_name.setdefault(_text_names(path)[0], []).append(path)
    beside = {folder: _by_name(texts) for folder, texts in folders.items()}
    recordings = Counter(_audio_name(path) for path in {path.with_suffix("") for path in audio})
    pairs = {}
    for path in audio:
        name = _audio_name(path)
        anywhere = (
            by_name.get(name, []) if recordings[_audio_name(path.with_suffix(""))] == 1 else []
        )
        found = beside.get(path.parent, {}).get(name)
        if found is None and len(anywhere) == 1:
            found = anywhere[0]
        if found is not None:
            pairs[path] = found
    return pairs


def text_beside(audio: Path) -> Path | None:
    """The text file in the folder of a recording that has its name; None when there is none."""
    folder = audio.absolute().parent
    try:
        return _texts_in(folder, folder.stat().st_mtime_ns).get(_audio_name(audio))
    except OSError:  # a folder that may not be listed
        return None


def is_transcript(path: Path) -> bool:
    """Whether the file is text that may be what one recording says."""
    return _is_text(path) and path.stem.lower() not in _NO_TRANSCRIPTS


def read_sidecars(
    root: Path, files: list[Path], audio: list[Path], report: SkipReport
) -> list[Utterance]:
    """The recordings with their transcripts; those without, and transcripts alone, are reported.

    Args:
        root: The corpus, for the report.
        files: All its files.
        audio: The recordings among them.
        report: Where what cannot be used is named.
    """
    pairs = pair_files(files, audio)
    ids = make_ids(audio)
    utterances = []
    for path in audio:
        item = path.relative_to(root).as_posix()
        if path not in pairs:
            expected = f"{path.stem}.txt or {path.stem}.lab beside it"
            report.add(item, f"{path}: has no transcript; expected {expected}")
            continue
        try:
            utterances.append(Utterance(id=ids[path], audio=path, text=read_text(pairs[path])))
        except ManifestError as error:
            report.add(item, error)
    for path in _texts_alone(files, audio, set(pairs.values())):
        report.add(path.relative_to(root).as_posix(), f"{path}: there is no audio of this name")
    return utterances


def _texts_alone(files: list[Path], audio: list[Path], used: set[Path]) -> list[Path]:
    """Transcripts of no recording, in the folders of recordings and of transcripts.

    A second transcript of a recording (``a.lab`` beside ``a.txt``) is none of them, nor is that of
    audio in a format that must be converted first: those recordings are named themselves.
    """
    twins = {(path.parent, name) for path in used for name in _text_names(path)}
    twins |= {(path.parent, _text_names(path)[0]) for path in unreadable_among(files)}
    folders = {path.parent for path in (*used, *audio)}
    return [
        path
        for path in files
        if is_transcript(path)
        and path.parent in folders
        and path not in used
        and not any((path.parent, name) in twins for name in _text_names(path))
    ]


@lru_cache(maxsize=64)
def _texts_in(folder: Path, changed: int) -> dict[str, Path]:
    """Text files of a folder by the names of their recordings; ``changed`` is when it last did."""
    return _by_name(path for path in folder.iterdir() if _is_text(path))


def _by_name(texts: Iterable[Path]) -> dict[str, Path]:
    """Texts of one folder by the name of the recording: ``.txt`` first, ``a.wav.txt`` last."""
    ordered = sorted(texts, key=lambda path: TRANSCRIPT_SUFFIXES.index(path.suffix.lower()))
    found: dict[str, Path] = {}
    for names in zip(*map(_text_names, ordered), strict=True):
        for name, path in zip(names, ordered, strict=True):
            found.setdefault(name, path)
    return found


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TRANSCRIPT_SUFFIXES


def _text_names(path: Path) -> tuple[str, str]:
    """The recordings a text may be of: ``a.wav.txt`` of ``a.wav.wav``, or else of ``a.wav``."""
    plain = path.with_suffix("").name
    return name_parts(f"{plain}.wav")[-1], name_parts(plain)[-1]


def _audio_name(path: Path) -> str:
    return name_parts(path.name)[-1]

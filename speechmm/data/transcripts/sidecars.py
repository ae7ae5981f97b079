"""Finds texts in files of their own: ``a.wav`` with ``a.txt``, ``a.lab`` or ``a.wav.txt``.

A text of exactly the recording's name comes first; where there is none, case and Unicode form do not
matter, unless the text is another recording's. It lies beside the recording, or anywhere in the corpus
where no other text has its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from speechmm.audio.files import audio_among, unreadable_among
from speechmm.data.ids import make_ids
from speechmm.data.skips import SkipReport
from speechmm.data.transcripts.audio_lookup import Parts, exact_parts, name_parts
from speechmm.data.transcripts.timed_labels import has_times
from speechmm.data.utterances import Utterance
from speechmm.errors import ManifestError
from speechmm.files.text import read_text

Name = Callable[[str], Parts]
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
    texts: dict[Path, list[Path]] = {}
    recordings: dict[Path, list[Path]] = {}
    for paths, folders in ((filter(_is_text, files), texts), (audio, recordings)):
        for path in paths:
            folders.setdefault(path.parent, []).append(path)
    beside = {folder: _Beside(texts[folder], recordings.get(folder, [])) for folder in texts}
    transcripts = list(filter(is_transcript, files))
    anywhere = [_Anywhere(transcripts, audio, parts) for parts in (exact_parts, name_parts)]
    pairs = {}
    for path in audio:
        places: list[_Beside | _Anywhere] = [*anywhere]
        if path.parent in beside:
            places.insert(0, beside[path.parent])
        found = next(filter(None, (place.text_of(path) for place in places)), None)
        if found is not None:
            pairs[path] = found
    return pairs


def text_beside(audio: Path) -> Path | None:
    """The text file in the folder of a recording that has its name; None when there is none."""
    folder = audio.absolute().parent
    try:
        return _texts_in(folder, folder.stat().st_mtime_ns).text_of(audio)
    except OSError:  # a folder that may not be listed
        return None


def read_transcript(path: Path) -> str:
    """The text of a sidecar.

    Raises:
        ManifestError: It cannot be read, or its lines are labels with times.
    """
    text = read_text(path)
    if has_times(text):
        raise ManifestError(
            f"{path}: found times, not a transcript ('{' '.join(text.split())[:40]}'); expected the words "
            "alone. Take the times away, or name a table of the texts with --transcripts."
        )
    return text


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
            utterances.append(
                Utterance(id=ids[path], audio=path, text=read_transcript(pairs[path]))
            )
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
def _texts_in(folder: Path, changed: int) -> _Beside:
    """The text files of a folder; ``changed`` is when it last did."""
    files = list(folder.iterdir())
    return _Beside(filter(_is_text, files), audio_among(files))


class _Beside:
    """Texts of one folder by the name of the recording: ``.txt`` first, ``a.wav.txt`` last.

    Args:
        texts: They, in any order.
        audio: The recordings of the folder, whose own texts are no other's.
    """

    def __init__(self, texts: Iterable[Path], audio: Iterable[Path]) -> None:
        ordered = sorted(texts, key=lambda path: TRANSCRIPT_SUFFIXES.index(path.suffix.lower()))
        self._exact = _first_by_name(ordered, exact_parts)
        own = {_audio_name(path, exact_parts) for path in audio}
        others = [path for path in ordered if own.isdisjoint(_text_names(path, exact_parts))]
        self._alike = _first_by_name(others, name_parts)

    def text_of(self, audio: Path) -> Path | None:
        """The text of a recording."""
        exact = self._exact.get(_audio_name(audio, exact_parts))
        return exact or self._alike.get(_audio_name(audio))


class _Anywhere:
    """Texts of a corpus by the name of the recording, where one text and one recording have it.

    Args:
        texts: Transcripts in any folder.
        audio: All recordings.
        name: `exact_parts` or `name_parts`.
    """

    def __init__(self, texts: Iterable[Path], audio: Iterable[Path], name: Name) -> None:
        self._name = name
        self._texts: dict[str, list[Path]] = {}
        for path in texts:
            self._texts.setdefault(_text_names(path, name)[0], []).append(path)
        stems = {path.with_suffix("") for path in audio}
        self._recordings = Counter(_audio_name(path, name) for path in stems)

    def text_of(self, audio: Path) -> Path | None:
        """The text of a recording."""
        if self._recordings[_audio_name(audio.with_suffix(""), self._name)] != 1:
            return None
        found = self._texts.get(_audio_name(audio, self._name), [])
        return found[0] if len(found) == 1 else None


def _first_by_name(texts: list[Path], parts: Name) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for names in zip(*(_text_names(path, parts) for path in texts), strict=True):
        for name, path in zip(names, texts, strict=True):
            found.setdefault(name, path)
    return found


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TRANSCRIPT_SUFFIXES


def _text_names(path: Path, parts: Name = name_parts) -> tuple[str, str]:
    """The recordings a text may be of: ``a.wav.txt`` of ``a.wav.wav``, or else of ``a.wav``."""
    plain = path.with_suffix("").name
    return _last(parts(f"{plain}.wav")), _last(parts(plain))


def _audio_name(path: Path, parts: Name = name_parts) -> str:
    return _last(parts(path.name))


def _last(parts: Parts) -> str:
    return parts[-1] if parts else ""  # of a name of blanks or dots

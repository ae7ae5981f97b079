"""Finds the file that a transcript table means by ``clips/a.mp3``, ``a`` or ``/my/wavs/a.wav``.

A table has one way of naming its files: relative to itself, to the corpus, to some folder below,
with or without suffix, or with a path of another machine in front. The names are matched to the
files that are there, from their ends, whatever their case, suffix or Unicode normal form; parts
in front are ignored only where no name of the table is found without.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from speechmm.audio.files import AUDIO_SUFFIXES, MEDIA_SUFFIXES
from speechmm.data.splits import SPLIT_NAMES

Parts = tuple[str, ...]


_USUAL_FOLDERS = ("wavs", "wav", "clips", "audio", "recordings")


@dataclass(frozen=True)
class Naming:
    """How one table names its files: ``base / name`` without its first ``ignored`` parts."""

    base: Parts | None = None
    """Folders below the corpus; None when several would do, or files lie in many."""
    ignored: int = 0


@dataclass
class AudioLookup:
    """The audio files of a corpus, to be found by what a table calls them."""

    root: Path
    files: list[Path]
    """Below ``root``."""
    _by_stem: dict[str, list[tuple[Parts, Path]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._by_stem = {}
        for path in self.files:
            parts = name_parts(path.relative_to(self.root).as_posix())
            self._by_stem.setdefault(parts[-1], []).append((parts, path))

    def knows(self, name: str) -> bool:
        """Whether a file's path ends in ``name``, or in its last part."""
        parts = name_parts(name)
        return bool(parts) and parts[-1] in self._by_stem

    def in_folders(self, names: Iterable[str]) -> bool:
        """Whether files of these names lie in more than one folder, those of splits aside."""
        folders = set()
        for parts in filter(None, set(map(name_parts, names))):
            found = self._ending_in(parts) or self._by_stem.get(parts[-1], [])
            folders |= {tuple(p for p in whole[:-1] if p not in SPLIT_NAMES) for whole, _ in found}
        return len(folders) > 1

    def find_naming(self, names: Iterable[str], folder: Path) -> Naming:
        """The way of naming that finds the most of ``names``; the table lies in ``folder``."""
        split_names = [parts for parts in map(name_parts, names) if parts]
        here: Parts = ()
        if folder != self.root and folder.is_relative_to(self.root):
            here = tuple(map(_fold, folder.relative_to(self.root).parts))
        for ignored in range(max(map(len, split_names), default=0)):
            bases = Counter(
                base
                for parts in split_names
                if len(parts) > ignored
                for base, _ in self._endings(parts[ignored:])
            )
            if bases:
                repeated = len(set(split_names)) < len(split_names)
                return Naming(_choose_base(bases, here, repeated=repeated), ignored)
        return Naming()

    def find(self, name: str, naming: Naming, folder: Path, speaker: str | None) -> list[Path]:
        """The file ``name`` means; none when it is not there, several when it cannot be told.

        A relative path counts from the table's folder, else from the corpus. Only where the corpus
        has no such file it counts from the current folder, which may be another corpus with files
        of the same names.
        """
        plain = name.strip()
        for path in (folder / plain, self.root / plain):  # an absolute name stays as it is
            if _is_audio_file(path):
                return [path]
        parts = name_parts(plain)
        found = self._endings(parts[naming.ignored :])
        if naming.ignored:
            found = [(base, path) for base, path in found if base == naming.base]
        here = Path(plain).absolute()
        if not found and Path(plain).parent != Path() and _is_audio_file(here):
            return [here]
        suffix = PurePosixPath(plain).suffix
        wishes: list[Callable[[Parts, Path], bool]] = [
            lambda base, path: path.as_posix().endswith((plain, f"{plain}{path.suffix}")),
            lambda base, path: speaker is not None and _fold(speaker) in base,
            lambda base, path: base == naming.base,
            lambda base, path: path.suffix == suffix,
        ]
        for wish in wishes:
            found = [(base, path) for base, path in found if wish(base, path)] or found
        same_but_suffix = len({path.with_suffix("") for _, path in found}) == 1
        return [path for _, path in found][: 1 if same_but_suffix else None]

    def _endings(self, parts: Parts) -> list[tuple[Parts, Path]]:
        """Files whose path ends in ``parts``, each with the folders before."""
        return [(whole[: len(whole) - len(parts)], path) for whole, path in self._ending_in(parts)]

    def _ending_in(self, parts: Parts) -> list[tuple[Parts, Path]]:
        """Files whose path ends in ``parts``, each with its whole path."""
        if not parts:
            return []
        same = self._by_stem.get(parts[-1], ())
        return [(whole, path) for whole, path in same if whole[-len(parts) :] == parts]


def _choose_base(bases: Counter[Parts], here: Parts, *, repeated: bool) -> Parts | None:
    """The folder that has most of a table's files, if it is plain which.

    Where a table repeats names, files of one name may be those of several speakers: then only the
    table's own folder is plain.
    """
    most = max(bases.values())
    best = [base for base, count in bases.items() if count == most]
    if here in best:
        return here
    if repeated and len(bases) > 1:
        return None
    if len(best) > 1:
        best = [base for base in best if base and base[-1] in _USUAL_FOLDERS]
    return best[0] if len(best) == 1 else None


def name_parts(name: str) -> Parts:
    """The parts of a path, without audio suffix, and alike for names people take for the same."""
    return tuple(map(_fold, exact_parts(name)))


def exact_parts(name: str) -> Parts:
    """The parts of a path, without audio suffix, as they are written."""
    name = name.strip()
    if "/" not in name:
        name = name.replace("\\", "/")
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
    if parts and PurePosixPath(parts[-1]).suffix.lower() in AUDIO_SUFFIXES | MEDIA_SUFFIXES:
        parts[-1] = PurePosixPath(parts[-1]).stem
    return tuple(parts)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_audio_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or not a name at all: a sentence, perhaps
        return False

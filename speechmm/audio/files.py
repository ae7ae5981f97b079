"""Finds audio files in folders by their suffixes, and names those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from speechmm.errors import AudioError
from speechmm.files.tree import list_files

AUDIO_SUFFIXES = frozenset((
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga", ".sph", ".nist",
    ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64",
))  # fmt: skip
"""Lower-case suffixes by which a folder is searched. A file named on its own may have any name."""

UNREADABLE_SUFFIXES = frozenset((
    ".3gp", ".aac", ".ac3", ".amr", ".ape", ".awb", ".m4a", ".m4b", ".mka", ".mkv",
    ".mov", ".mp4", ".webm", ".wma", ".wv",
))  # fmt: skip
"""Audio, or video with sound, that libsndfile does not read."""


def find_audio(path: str | Path) -> list[Path]:
    """The audio files in a folder and the folders below it, sorted; hidden ones left out.

    Raises:
        AudioError: There is no such folder.
    """
    return audio_among(list_files(Path(path), error=AudioError))


def audio_among(files: Iterable[Path]) -> list[Path]:
    """The audio files that can be read, as far as their suffixes tell."""
    return [path for path in files if _suffix(path) in AUDIO_SUFFIXES and path.is_file()]


def unreadable_among(files: Iterable[Path]) -> dict[Path, AudioError]:
    """Audio files that must be converted first, and what to say of each.

    One that has been converted, and lies beside the result of the same name, is not among them.
    """
    files = list(files)
    readable = {path.with_suffix("") for path in audio_among(files)}
    return {
        path: AudioError(
            f"{path}: {path.suffix} is not read; expected wav, flac, ogg, mp3, sph or the like. "
            f'Convert it: "ffmpeg -i {quote(path.name)} -vn {quote(path.stem)}.flac".'
        )
        for path in files
        if _suffix(path) in UNREADABLE_SUFFIXES and path.with_suffix("") not in readable
    }


def _suffix(path: Path) -> str:
    return path.suffix.lower()

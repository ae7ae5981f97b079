"""Finds audio and media files in folders by their suffixes, and names those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from shlex import quote

from speechmm.audio.media_extra import INSTALL, media_installed
from speechmm.errors import AudioError
from speechmm.files.tree import list_files

AUDIO_SUFFIXES = frozenset((
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga", ".sph", ".nist",
    ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64",
))  # fmt: skip
"""Lower-case suffixes by which a folder is searched. A file named on its own may have any name."""

MEDIA_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".aac", ".ac3", ".amr", ".ape", ".asf", ".avi", ".awb", ".dts", ".eac3", ".f4v",
    ".flv", ".m2ts", ".m4a", ".m4b", ".m4r", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".spx", ".tak", ".tta", ".vob", ".weba", ".webm", ".wma", ".wmv", ".wv",
))  # fmt: skip
"""Audio, and video with sound, that libsndfile does not read and FFmpeg does."""


def find_audio(path: str | Path) -> list[Path]:
    """The audio files in a folder and the folders below it, sorted; hidden ones left out.

    Raises:
        AudioError: There is no such folder.
    """
    return audio_among(list_files(Path(path), error=AudioError))


def audio_among(files: Iterable[Path]) -> list[Path]:
    """The audio files that can be read, as far as their suffixes tell.

    Of a media file that has been converted, and lies beside the result of the same name, only the
    result is among them.
    """
    files = list(files)
    audio = {path for path in files if _suffix(path) in AUDIO_SUFFIXES and path.is_file()}
    if media_installed():
        audio |= _unconverted(files, audio)
    return [path for path in files if path in audio]


def unreadable_among(files: Iterable[Path]) -> dict[Path, AudioError]:
    """Media files that cannot be read as things are, and what to say of each."""
    files = list(files)
    unreadable = set() if media_installed() else _unconverted(files, audio_among(files))
    return {
        path: AudioError(
            f"{path}: {path.suffix} is not read without {INSTALL}; expected wav, flac, ogg, mp3, sph "
            "or the like. Install that, or convert it: "
            f'"ffmpeg -i {quote(path.name)} -vn {quote(path.stem)}.flac".'
        )
        for path in files
        if path in unreadable
    }


def _unconverted(files: Iterable[Path], audio: Iterable[Path]) -> set[Path]:
    """The media files that lie beside no audio of the same name."""
    converted = {path.with_suffix("") for path in audio}
    return {
        path
        for path in files
        if _suffix(path) in MEDIA_SUFFIXES and path.with_suffix("") not in converted
    }


def _suffix(path: Path) -> str:
    return path.suffix.lower()

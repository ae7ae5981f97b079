"""Finds the parts of a lhotse Shar folder: manifests of cuts, each with an archive of their audio."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from speechmm.errors import ManifestError

_CUTS = re.compile(r"cuts(\.\d+)?\.jsonl(\.gz)?")
_AUDIO = re.compile(r"recording(\.\d+)?\.tar")


@dataclass(frozen=True)
class Shard:
    """Some of the cuts of a corpus."""

    cuts: Path
    """``.jsonl`` or ``.jsonl.gz``."""
    archive: Path | None
    """Tar with their audio, an absolute path; None where they say themselves where it is."""


def is_shar(path: Path) -> bool:
    """Whether a path is a folder of lhotse Shar."""
    cuts, audio = _parts(path)
    return bool(cuts and audio)


def find_shards(path: Path) -> list[Shard]:
    """The parts of a folder in the order of their numbers; of a file, itself.

    Raises:
        ManifestError: A folder without cuts, or a part without cuts or audio.
    """
    if not path.is_dir():
        match = _CUTS.fullmatch(path.name)
        archive = path.absolute().with_name(f"recording{match[1] or ''}.tar") if match else None
        return [Shard(path, archive if archive and archive.is_file() else None)]
    cuts, audio = _parts(path)
    if not cuts:
        raise ManifestError(
            f"{path}: is a folder without cuts.000000.jsonl.gz; expected a cuts manifest, or a folder "
            'of lhotse Shar. Make one with "speechmm prepare ... --shar 1000".'
        )
    for name in sorted(cuts.keys() ^ audio.keys()):
        there = cuts.get(name) or audio[name]
        missing = f"recording{name}.tar" if name in cuts else f"cuts{name}.jsonl.gz"
        raise ManifestError(
            f"{there}: there is no {missing} beside it; expected cuts and their audio. Get the "
            "whole folder, or prepare the corpus again."
        )
    return [Shard(cuts[name], audio[name].absolute()) for name in sorted(cuts)]


def cut_files(path: Path) -> list[Path]:
    """The manifests of a folder of lhotse Shar; any other path itself."""
    return sorted(_parts(path)[0].values()) or [path]


def archives(path: Path) -> list[Path]:
    """The archives of audio that belong to a folder of lhotse Shar, or to one of its manifests."""
    try:
        return [shard.archive for shard in find_shards(path) if shard.archive]
    except ManifestError:  # reading it will say why
        return []


def _parts(path: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The manifests and the archives in a folder by the number in their names; none elsewhere."""
    cuts: dict[str, Path] = {}
    audio: dict[str, Path] = {}
    try:
        names = sorted(path.iterdir())
    except (OSError, ValueError):
        return cuts, audio
    for one in names:
        for pattern, found in ((_CUTS, cuts), (_AUDIO, audio)):
            match = pattern.fullmatch(one.name)
            if match:
                found[match[1] or ""] = one
    return cuts, audio

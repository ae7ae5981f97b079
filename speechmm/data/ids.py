"""Makes the ids of utterances that have none: from the names of their recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def make_ids(files: Iterable[Path]) -> dict[Path, str]:
    """An id for every recording of a folder: its file's name without suffix, as it is.

    Where several have one name, the path below the deepest folder of all recordings takes its place
    ("ann/1"). ``prepare``, ``transcribe`` and ``align`` give a recording its id here.
    """
    places = {file: file.absolute().with_suffix("") for file in files}
    if not places:
        return {}
    names = Counter(place.name for place in set(places.values()))
    top = common_folder(places.values())
    return {
        file: place.name if names[place.name] == 1 else place.relative_to(top).as_posix()
        for file, place in places.items()
    }


def common_folder(paths: Iterable[Path]) -> Path:
    """The deepest folder that all the files are in."""
    first, *others = {path.parent for path in paths}
    top = first
    while not all(parent.is_relative_to(top) for parent in others):
        top = top.parent
    return top

"""Tells whether a result is up to date: a digest of settings and inputs, kept in its record.

A command makes the stamp of what it is asked for, compares it with the record in place
(`read_current`), and works only where they differ. The record is written last, so that interrupted
work has none; where outputs are replaced one by one, the old record is removed first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from speechmm.errors import SpeechmmError
from speechmm.files.atomic import is_plain_name, write_text
from speechmm.files.json_text import parse_json, to_json
from speechmm.files.text import read_text

Record = dict[str, Any]
"""What a finished command says again when nothing has changed, with its stamp and outputs."""

_STAMP = "stamp"
_OUTPUTS = "outputs"


def make_stamp(settings: Any, inputs: Iterable[Path]) -> str:
    """A digest that changes with a setting, and with name, size or modification time of an input.

    Args:
        settings: All that decides about the result; what JSON does not know counts by its text.
        inputs: Files, in any order; one that is missing counts as missing.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for path in sorted(set(inputs)):
        digest.update(f"\n{path}\0{_state(path)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def make_record(stamp: str, content: Mapping[str, Any]) -> Record:
    """The record of a result that is one file and holds its record itself."""
    return {**content, _STAMP: stamp}


def write_record(
    path: Path, stamp: str, content: Mapping[str, Any], outputs: Iterable[Path] = ()
) -> Record:
    """Writes the record of a result whose outputs are all in place.

    Args:
        path: JSON file, in the folder of the outputs or above.
        stamp: Of the settings and inputs that the result was made from.
        content: What a rerun will say again.
        outputs: Files and folders that a rerun will look for.
    """
    sizes = {
        output.relative_to(path.parent).as_posix(): _size(output) for output in sorted(outputs)
    }
    record = {**make_record(stamp, content), _OUTPUTS: sizes}
    write_text(path, to_json(record, indent=1) + "\n", ours=True)
    return record


def read_record(path: Path) -> Record:
    """The record in place, whatever it was made from; empty when there is none that can be read."""
    try:
        found = parse_json(read_text(path))
    except (SpeechmmError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_current(record: Any, stamp: str, folder: Path) -> bool:
    """Whether a record has this stamp, and its outputs lie in ``folder`` as they were left.

    Whatever a file held in the place of a record may be asked.
    """
    if not isinstance(record, dict) or record.get(_STAMP) != stamp:
        return False
    outputs = record.get(_OUTPUTS, {})
    if not isinstance(outputs, dict) or not all(map(_is_inside, outputs)):
        return False
    return all(_size(folder / name) == size for name, size in outputs.items())


def output_names(record: Record, key: str = _OUTPUTS) -> set[str]:
    """The names of files in a record's own folder that stand under a key; others are left out.

    A record may come from a stranger: only what lies in its folder itself may be removed by it.
    """
    found = record.get(key)
    return {name for name in found if is_plain_name(name)} if isinstance(found, dict) else set()


def read_current(path: Path, stamp: str) -> Record | None:
    """The record in place when it has this stamp and its outputs are as they were; else None."""
    record = read_record(path)
    return record if is_current(record, stamp, path.parent) else None


def remove_record(path: Path) -> None:
    """Removes a record whose outputs are about to be replaced."""
    path.unlink(missing_ok=True)


def _is_inside(name: str) -> bool:
    """Whether a name of an output stays in the folder of the record."""
    return all(map(is_plain_name, name.split("/")))


def _state(path: Path) -> str:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _size(path: Path) -> int | str:
    """Bytes of a file; a folder is only looked for."""
    try:
        if path.is_dir():
            return "folder"
        return path.stat().st_size if path.is_file() else "missing"
    except OSError:  # a name that no file can have
        return "missing"

"""Lists what is attacked: every reader by itself, and every command with each kind of input it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Reader = Callable[[Path], object]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something to be attacked."""

    name: str
    seeds: tuple[str, ...]
    """Patterns of valid inputs in the world: files, or folders of which one file is damaged."""
    reader: Reader | None = None
    """Called with the damaged input; None for commands."""
    argv: tuple[str, ...] = ()
    """Of a command; {in}, {out} and {world} are replaced by paths, {text} by what the input holds."""
    weight: float = 1.0
    """How often it comes, compared with others."""
    writes_input: bool = False
    """The command is told to write to what it reads."""
    shortened: bool = False
    """In forks it learns for a moment only; a program of its own would take minutes."""


def all_targets() -> list[Target]:
    """The targets of ``targets.yaml``: readers, then commands."""
    from fuzzing import reading

    found = yaml.safe_load(Path(__file__).with_name("targets.yaml").read_text("utf-8"))
    return [
        Target(
            name=name,
            seeds=tuple(_flat(one["seeds"])),
            reader=getattr(reading, one["reader"]) if "reader" in one else None,
            argv=tuple(one.get("run", "").replace("{model}", "{world}/bundle").split()),
            weight=float(one.get("weight", 1)),
            writes_input=one.get("writes_input", False),
            shortened=one.get("shortened", False),
        )
        for name, one in (found["readers"] | found["commands"]).items()
    ]


def _flat(seeds: list[Any]) -> Iterator[str]:
    for one in seeds:
        yield from one if isinstance(one, list) else [one]

"""Describes the options of corpus parsers, from which ``speechmm prepare`` makes its flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechmm.data.utterances import CHECKS


@dataclass(frozen=True, kw_only=True)
class Option:
    """An argument of a parser's ``prepare``, and a flag of ``speechmm prepare CORPUS``."""

    name: str
    """Of the argument; the flag has hyphens for its underscores."""
    help: str
    type: type[str] | type[int] | type[float] | type[Path] = str
    default: str | int | float | None = None
    choices: tuple[str, ...] = ()
    """All there is to choose from; empty for any value of the type."""
    metavar: str | None = None
    """What the help calls a value."""

    @property
    def flag(self) -> str:
        """As it is typed: ``--leave-out``."""
        return "--" + self.name.replace("_", "-")


CHECK = Option(
    name="check",
    choices=CHECKS,
    default=CHECKS[0],
    help="decode all audio, which finds damage, or only open it",
)
DRAWN_SPLITS = (
    *(
        Option(
            name=split,
            type=float,
            default=0.1,
            help=f"share of the seconds for {split} where the corpus has none, in [0, 1)",
        )
        for split in ("dev", "test")
    ),
    Option(name="seed", type=int, default=0, help="another one draws other dev and test sets"),
)
NUM_WORKERS = Option(
    name="num_workers", type=int, help="processes; as many as cores, 4 at most, when not given"
)
LANGUAGE = Option(
    name="language", metavar="CODE", help="language spoken, such as en, where the corpus is silent"
)

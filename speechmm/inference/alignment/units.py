"""Names the units of alignments, and checks those that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from speechmm.errors import ConfigError

FINEST_UNITS = {"char": "char", "phone": "phone", "bpe": "char", "unigram": "char"}
"""What an aligned token of each kind of tokenizer is called as a unit."""


def check_units(units: Sequence[str] | None, kind: str) -> tuple[str, ...]:
    """The units to align, checked against those a tokenizer of this kind makes.

    Raises:
        ConfigError: A unit is not one of them, or none is given.
    """
    return check_kinds(units, FINEST_UNITS[kind])


def check_kinds(units: Sequence[str] | None, finest: str) -> tuple[str, ...]:
    """:func:`check_units` where the finest unit is known."""
    choices = ("word", finest)
    if units is None:
        return choices
    wrong = [unit for unit in units if unit not in choices]
    if wrong or not units:
        raise ConfigError(
            f"unit: found {', '.join(map(repr, wrong)) or 'none'}; expected some of "
            f"{', '.join(choices)} (the finest here). Choose from these."
        )
    return tuple(dict.fromkeys(units))

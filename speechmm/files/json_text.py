"""Reads JSON from anywhere so that every way it can be wrong is one kind of error, and writes it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from speechmm.errors import ManifestError, SpeechmmError
from speechmm.files.pipes import is_pipe
from speechmm.files.text import read_text

MAX_DEPTH = 100
"""Lists in lists: what is nested deeper is no data of ours, and Python would give up on it later."""
MAX_INTEGER = 2**63 - 1
_UNUSUAL_NUMBER = re.compile(r"[0-9](?:[0-9]{18}|[eE]\+?[0-9]{3})")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Numbers are finite and integers have 64 bits; texts can be written as UTF-8 again, or are the
    names of files that are not UTF-8, as Python has them (PEP 383).

    Raises:
        ValueError: It is not JSON, or one of these does not hold.
    """
    try:
        decoder = _CAREFUL if _UNUSUAL_NUMBER.search(text) else _USUAL
        value = decoder.decode(text)
    except RecursionError as error:
        raise ValueError(f"nested more than {MAX_DEPTH} deep") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from error
    if text.count("[") + text.count("{") > MAX_DEPTH or _SURROGATE.search(text):
        _check(value)
    return value


def read_json(
    path: Path, *, expected: str, advice: str, error: type[SpeechmmError] = ManifestError
) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: The file, in UTF-8, gzipped or not.
        expected: What it should be, for the message: "a bundle's settings".
        advice: What to do where it is not, a sentence.
        error: What is raised.

    Raises:
        SpeechmmError: It cannot be read, or holds something else than one object.
    """
    try:
        if not (path.exists() or is_pipe(path)):
            raise ValueError("No such file or directory")
        value = parse_json(read_text(path, error=error))
        if not isinstance(value, dict):
            raise ValueError(f"it holds {type(value).__name__}, no object")
    except ValueError as cause:
        raise error(f"{path}: cannot be read ({cause}); expected {expected}. {advice}") from cause
    return value


Shape = Any
"""A type, a tuple of types, None, ``[shape]`` of items, ``{str: shape}`` of values under any names, or
``{"name": shape}`` with names that must be there."""
SKIPPED: Shape = [{"item": str, "reason": str}]
"""What records hold of inputs that were skipped."""


def fits(value: Any, shape: Shape) -> bool:  # noqa: PLR0911 (a case each)
    """Whether a value from JSON has a shape; truth values are no numbers, integers are also floats."""
    if isinstance(shape, tuple):
        return any(fits(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(one, shape[0]) for one in value)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        if str in shape:
            return all(fits(one, shape[str]) for one in value.values())
        return all(name in value and fits(value[name], one) for name, one in shape.items())
    if shape is None or value is None:
        return shape is value
    if isinstance(value, bool):
        return shape in (bool, object)
    return isinstance(value, (int, float) if shape is float else shape)


def to_json(value: Any, **layout: Any) -> str:
    """A value as JSON text with letters of all scripts as they are.

    File names that are not UTF-8 become escapes, which `parse_json` reads as these names again.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, **layout)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"not JSON ({constant} is no number)")


def _integer(digits: str) -> int:
    if len(digits) > len(str(-MAX_INTEGER)) or abs(int(digits)) > MAX_INTEGER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"the number {digits[:20]} is too large")
    return float(digits)


_USUAL = json.JSONDecoder(parse_constant=_refuse)
_CAREFUL = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer, parse_float=_number)


def _check(value: Any) -> None:
    """Looks at depth and texts, level by level."""
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                deeper += [*one, *one.values()]
            elif isinstance(one, list):
                deeper += one
            elif isinstance(one, str):
                _check_text(one)
        if not deeper:
            return
        level = deeper
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character (\\u{ord(text[error.start]):04x}) in a text") from error

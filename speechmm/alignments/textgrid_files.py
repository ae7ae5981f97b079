"""Reads Praat TextGrids, in the long or the short text format, as Praat and other tools write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from speechmm.alignments.segments import Alignment, Segment
from speechmm.errors import AlignmentError
from speechmm.files.pipes import is_readable
from speechmm.files.text import read_text

ROUNDING_SECONDS = 1e-3
"""Intervals that overlap by no more than this do so by the rounding of another program."""

_TOKENS = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"'
    r"|(?<!\S)(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\S)"
    r"|(?<!\S)(?P<flag><\w+>)(?!\S)"
    r"|(?<!\S)![^\n]*"
)
"""What Praat reads of a text file: free-standing texts, numbers and flags, and nothing else.

Source: the Praat manual, "TextGrid file formats".
"""
_UNIT_OF_TIER = {
    **dict.fromkeys(("word", "words", "ort", "ort-mau", "tokensalign"), "word"),
    **dict.fromkeys(("phone", "phones", "phoneme", "phonemes", "mau", "phonalign"), "phone"),
    **dict.fromkeys(("char", "chars", "character", "characters", "letters"), "char"),
    **dict.fromkeys(("syllable", "syllables", "syll", "mas", "syllalign"), "syllable"),
    **dict.fromkeys(("token", "tokens"), "token"),
}
"""Names of tiers in lower case: of MFA, Penn, BAS WebMAUS (ORT-MAU, MAU, MAS), SPPAS, EasyAlign."""


def read_textgrid(path: Path, *, id: str) -> Alignment:
    """The interval tiers of a TextGrid as units; intervals without a label are left out.

    "anna - words" is a tier of words, as the Montreal Forced Aligner names those of a speaker, and so
    is "words (anna)"; those of several speakers become one, in the order of time. Tiers of points
    are left out.

    Args:
        path: A TextGrid in the long or the short text format, UTF-8 or UTF-16.
        id: The utterance it belongs to.

    Raises:
        AlignmentError: The file is missing or not a TextGrid, its intervals overlap by more than
            rounding, or two tiers are one unit.
    """
    try:
        if not is_readable(path):
            raise ValueError("it is no regular file")
        end, tiers = _parse(read_text(path, error=AlignmentError))
    except (StopIteration, ValueError) as error:
        raise AlignmentError(
            f"{path}: cannot be read as a TextGrid ({error or 'it ends too early'}); expected one "
            "as Praat saves it. Open it in Praat and save it again."
        ) from error
    found: dict[str, list[tuple[bool, list[Segment]]]] = {}
    names: dict[str, int] = {}
    for name, intervals in tiers:
        names[name] = names.get(name, 0) + 1
        shown = name if names[name] == 1 else f"{name}_{names[name]}"
        unit, of_speaker = _unit_of(shown)
        found.setdefault(unit, []).append((of_speaker, _segments(path, shown, intervals)))
    for unit, parts in found.items():
        if len(parts) > 1 and not all(of_speaker for of_speaker, _ in parts):
            raise AlignmentError(
                f"{path}: two tiers hold the unit {unit!r}; expected one. Rename or remove one."
            )
    return Alignment(
        id=id,
        duration=end,
        units={
            unit: sorted((one for _, part in parts for one in part), key=lambda one: one.start)
            for unit, parts in found.items()
        },
    )


_Interval = tuple[float, float, str]


def _parse(text: str) -> tuple[float, list[tuple[str, list[_Interval]]]]:
    """The end of a TextGrid, and its interval tiers with their names.

    Raises:
        StopIteration: It ends too early.
        ValueError: It is none.
    """
    tokens = _TOKENS.finditer(text)
    if not _text(tokens).startswith("ooTextFile") or _text(tokens) != "TextGrid":
        raise ValueError('it does not begin with "ooTextFile" and "TextGrid"')
    _number(tokens)
    end = _number(tokens)
    tiers: list[tuple[str, list[_Interval]]] = []
    if _next(tokens, "flag") != "<exists>":
        return end, tiers
    for _ in range(_count(tokens)):
        kind, name = _text(tokens), _text(tokens).strip()
        _number(tokens), _number(tokens)
        if kind not in ("IntervalTier", "TextTier"):
            raise ValueError(f"a tier is of the kind {kind[:30]!r}")
        if kind == "IntervalTier":
            spans = range(_count(tokens))
            tiers.append((name, [(_number(tokens), _number(tokens), _text(tokens)) for _ in spans]))
        else:
            for _ in range(_count(tokens)):
                _number(tokens), _text(tokens)
    return end, tiers


def _next(tokens: Iterator[re.Match[str]], kind: str) -> str:
    token = next(tokens)
    while token.lastgroup is None:  # a comment
        token = next(tokens)
    if token.lastgroup != kind:
        raise ValueError(f"found {token[0][:30]!r} where a {kind} belongs")
    return token[kind]


def _text(tokens: Iterator[re.Match[str]]) -> str:
    return _next(tokens, "text").replace('""', '"')


def _number(tokens: Iterator[re.Match[str]]) -> float:
    return float(_next(tokens, "number"))


def _count(tokens: Iterator[re.Match[str]]) -> int:
    return int(_next(tokens, "number"))


def _unit_of(name: str) -> tuple[str, bool]:
    """The unit of a tier, and whether the tier belongs to one speaker of several."""
    unit = _UNIT_OF_TIER.get(name.lower())
    if unit is not None:
        return unit, False
    plain, *speaker = re.split(r"\s*\(", name, maxsplit=1)
    parts = [*name.split(" - "), *([plain] if speaker and name.endswith(")") else [])]
    for part in reversed(parts):
        unit = _UNIT_OF_TIER.get(part.strip().lower())
        if unit is not None:
            return unit, True
    return name, False


def _segments(path: Path, tier: str, intervals: list[_Interval]) -> list[Segment]:
    """Intervals with a label, one after another."""
    segments: list[Segment] = []
    position = float("-inf")
    for start, end, label in intervals:
        if start < position - ROUNDING_SECONDS or end < start - ROUNDING_SECONDS:
            raise AlignmentError(
                f"{path}: in the tier {tier!r} the interval {label.strip()[:30]!r} from {start:g} to "
                f"{end:g} s overlaps the one before it, or ends before it begins; expected intervals "
                "one after another. Correct it in Praat."
            )
        begin = max(start, position)
        position = max(begin, end)
        if label.strip():
            row = {"label": label.strip(), "start": begin, "end": position}
            segments.append(Segment.from_dict(row))
    return segments

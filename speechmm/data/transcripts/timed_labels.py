"""Tells label files with times (HTK, xwaves, TIMIT, Audacity) from transcripts."""

from __future__ import annotations

import re
from itertools import pairwise

_LINE = re.compile(r"(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)(?:\s+(\S.*))?")
_NUMBER_FIRST = re.compile(r"\d+(?:\.\d+)?(?:\s|$)")
_EXACT = 3  # digits behind the point, as programs write times
_SAMPLES = 3000  # later than any year; an end counted in samples, or in 100 ns, is later than this
_LATER = 1_000_000  # 0.1 s in 100 ns


def has_times(text: str) -> bool:
    """Whether all lines are labels with times: start and end, or time and colour, and then a label.

    A transcript may begin with numbers. One line has times where words follow two increasing numbers
    and these are 0 and more than 3,000 (TIMIT), or more than 1,000,000 (HTK), or have three decimals
    (Audacity): "1 2 3", "20 20 vision" and "1914 1918 war" are transcripts. Several lines have times
    where each begins with two numbers, the first of them never decrease, and these have decimals, or
    the last end is above 3,000, or each line begins where the one before ends: "1 2 buckle my shoe"
    above "3 4 knock at the door" is a transcript. Where a number follows the two (spoken digits), they
    must have three decimals, or lines must follow each other and the last end be above 3,000. Two numbers
    at the beginning of all lines are enough below the head of an xwaves file (CMU ARCTIC), a line "#".
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    headed = "#" in lines
    if headed:
        lines = lines[lines.index("#") + 1 :]
    found = [match.groups() for line in lines if (match := _LINE.fullmatch(line))]
    if not lines or len(found) < len(lines):
        return False
    if headed:
        return True
    numeric = any(not label or _NUMBER_FIRST.match(label) for _, _, label in found)
    if len(found) == 1:
        return not numeric and _are_one_range(*found[0][:2])
    starts, ends = [start for start, _, _ in found], [end for _, end, _ in found]
    if any(float(after) < float(before) for before, after in pairwise(starts)):
        return False
    late = float(ends[-1]) > _SAMPLES
    follow = list(map(float, ends[:-1])) == list(map(float, starts[1:]))
    if numeric:
        return all(map(_is_exact, starts)) or (follow and late)
    return any("." in start for start in starts) or late or follow


def _are_one_range(start: str, end: str) -> bool:
    """Whether two numbers before words are the times of a recording's only label."""
    if not float(start) < float(end):
        return False
    if _is_exact(start) and _is_exact(end):
        return True
    return float(end) > (_SAMPLES if float(start) == 0 else _LATER)


def _is_exact(number: str) -> bool:
    return len(number.partition(".")[2]) >= _EXACT

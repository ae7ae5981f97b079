"""Finds words that a transcript repeats again and again, as decoders do where they hear nothing."""

from __future__ import annotations

from collections.abc import Sequence

TIMES_BY_LENGTH = ((6, 2), (3, 3), (1, 5))
"""So many words or more, said so many times or more in a row, are a loop; fewer words are said on
purpose ("no no no", "one one one")."""
MAX_LOOP_WORDS = 40
REPEATED = "repeated"
"""What flags of such words begin with."""


def repeated_words(words: Sequence[str]) -> tuple[str, ...]:
    """A flag ``repeated: WORDS (N times)`` for each loop, in the order of the text.

    Args:
        words: Of a transcript.
    """
    flags: list[str] = []
    place = 0
    while place < len(words):
        loop = _loop_at(words, place)
        if loop is None:
            place += 1
            continue
        length, times = loop
        flags.append(f"{REPEATED}: {' '.join(words[place : place + length])} ({times} times)")
        place += length * times
    return tuple(flags)


def _loop_at(words: Sequence[str], place: int) -> tuple[int, int] | None:
    """Words and repetitions of the shortest loop that begins at a place; None for none."""
    for length in range(1, min(MAX_LOOP_WORDS, (len(words) - place) // 2) + 1):
        one = words[place : place + length]
        times = 1
        while words[place + times * length : place + (times + 1) * length] == one:
            times += 1
        wanted = next(count for least, count in TIMES_BY_LENGTH if length >= least)
        if times >= wanted:
            return length, times
    return None

"""Finds words that a transcript repeats again and again, as decoders do where they hear nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from speechmm.alignments.scripts import is_unspaced, joined_words, pieces

TIMES_BY_LENGTH = ((6, 2), (3, 3), (1, 5))
"""So many words or more, said so many times or more in a row, are a loop; fewer words are said on
purpose ("no no no", "one one one"). Two letters of scripts without spaces count as a word."""
MAX_LOOP_WORDS = 40
REPEATED = "repeated"
"""What flags of such words begin with."""


def repeated_words(labels: Iterable[str]) -> tuple[str, ...]:
    """A flag ``repeated: WORDS (N times)`` for each loop, in the order of the text.

    Args:
        labels: The words of a transcript; those of scripts without spaces are cut into letters.
    """
    words = [piece for label in labels for piece in pieces(label)]
    flags: list[str] = []
    place = 0
    while place < len(words):
        loop = _loop_at(words, place)
        if loop is None:
            place += 1
            continue
        length, times = loop
        said = joined_words(words[place : place + length])
        flags.append(f"{REPEATED}: {said} ({times} times)")
        place += length * times
    return tuple(flags)


def _loop_at(words: Sequence[str], place: int) -> tuple[int, int] | None:
    """Words and repetitions of the shortest loop that begins at a place; None for none."""
    for length in range(1, min(MAX_LOOP_WORDS, (len(words) - place) // 2) + 1):
        one = words[place : place + length]
        times = 1
        while words[place + times * length : place + (times + 1) * length] == one:
            times += 1
        if times > 1 and times >= _times_of_a_loop(one):
            return length, times
    return None


def _times_of_a_loop(words: Sequence[str]) -> int:
    """How often these words in a row are a loop."""
    length = max(1.0, sum(0.5 if is_unspaced(word) else 1.0 for word in words))
    return next(count for least, count in TIMES_BY_LENGTH if length >= least)

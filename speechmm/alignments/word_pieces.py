"""Cuts words at the times of their letters: those of scripts without spaces, and overlong ones."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from speechmm.alignments.scripts import clusters, columns, is_unspaced, pieces
from speechmm.alignments.segments import Segment

LONG_WORD = 20
"""Columns; a longer word may have to be cut to be shown."""
LONG_SECONDS = 7.0
"""A long word that takes longer is cut, however wide it is."""


def may_be_cut(word: str) -> bool:
    """Whether anybody may need the times of a word's letters."""
    return is_unspaced(word) or columns(word) > LONG_WORD


def text_of(words: Iterable[Segment]) -> str:
    """The text of words, with spaces where there are any between them."""
    return "".join(("" if word.glued else " ") + word.label for word in words).removeprefix(" ")


def joined_parts(parts: Iterable[Sequence[Segment]]) -> list[Segment]:
    """The words of the parts of a recording, one part after another.

    The first word of a part is glued to the word before it where letters of scripts without spaces meet.
    """
    words: list[Segment] = []
    for first, *others in filter(None, parts):
        before = pieces(words[-1].label)[-1] if words else ""
        glued = is_unspaced(before) and is_unspaced(pieces(first.label)[0])
        words += [replace(first, glued=True) if glued else first, *others]
    return words


def cut_unspaced(words: Iterable[Segment]) -> list[Segment]:
    """The words, those of scripts without spaces cut into their letters (`scripts.pieces`)."""
    return [part for word in words for part in cut_word(word, pieces(word.label))]


def cut_for_display(words: Iterable[Segment], most_columns: int) -> list[Segment]:
    """The same, and words that are too wide or take too long for a subtitle cut between letters."""
    parts: list[Segment] = []
    for word in cut_unspaced(words):
        limit = LONG_WORD if word.duration > LONG_SECONDS else most_columns
        is_one = len(word.label.split()) == 1
        parts += cut_word(
            word, clusters(word.label) if is_one and columns(word.label) > limit else []
        )
    return parts


def cut_word(word: Segment, parts: Sequence[str]) -> list[Segment]:
    """A word as segments of its parts, which joined are its label.

    A part begins where its first letter does. Where the number of letters is not that of the word's
    ``letter_starts`` the parts begin at the times in like proportion; without any times the letters
    share the word's time equally.
    """
    if len(parts) < 2:
        return [word]
    weights = [sum(map(_is_letter, part)) for part in parts]
    total = sum(weights)
    times = (*word.letter_starts, word.duration)
    if len(times) < 2:
        times = (0.0, word.duration)
    edges = [0.0]
    done = 0
    for weight in weights:
        done += weight
        edges.append(_at(times, done / total if total else 1.0))
    segments = []
    for place, part in enumerate(parts):
        segments.append(
            replace(
                word,
                label=part,
                start=word.start + edges[place],
                end=word.start + max(edges[place], edges[place + 1]),
                glued=word.glued or place > 0,
                letter_starts=(),
                start_range=None,
                end_range=None,
            )
        )
    segments[0] = replace(segments[0], glued=word.glued, start_range=word.start_range)
    segments[-1] = replace(segments[-1], end=word.end, end_range=word.end_range)
    return segments


def _at(times: Sequence[float], share: float) -> float:
    """The time at a share of a list of times, between two of them in proportion."""
    place = share * (len(times) - 1)
    before = min(int(place + 1e-9), len(times) - 2)
    return times[before] + max(0.0, place - before) * (times[before + 1] - times[before])


def _is_letter(character: str) -> bool:
    """Whether it is a letter, a mark or a digit: what tokens are made of."""
    return unicodedata.category(character)[0] in "LMN"

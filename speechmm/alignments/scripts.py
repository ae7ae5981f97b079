"""Knows the scripts that write no spaces between words, and the letters a text can be cut into."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

_UNSPACED = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan",
             "Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet", "Javanese", "Balinese", "Yi")  # fmt: skip
"""Scripts of texts in which spaces divide phrases, if they are written at all.

Source: the Unicode Standard, annex 14 (line breaking), classes SA and ID; Tibetan, Javanese and
Balinese of their chapters.
"""
_VOWELS_BEFORE = "\u0e40-\u0e44\u0ec0-\u0ec4"  # Thai and Lao, typed before their consonant
_SUBJOINERS = "\u17d2\u1039\u1a60"  # Khmer, Burmese, Tai Tham: what follows stands below


@cache
def _patterns() -> tuple[Any, Any]:
    import regex  # imported here: most texts never need it

    unspaced = "".join(rf"\p{{scx={script}}}" for script in _UNSPACED)
    # A cluster is what one reads as a letter: with its marks, vowels before it, letters below it.
    cluster = rf"[{_VOWELS_BEFORE}]*(?:\X(?<=[{_SUBJOINERS}]))*\X"
    # Marks that any script may use, such as the dot below and the apostrophe of ejectives, are of the
    # letter they stand at.
    letter = rf"(?V1)[[{unspaced}]--[\p{{sc=Inherited}}\p{{scx=Latin}}]]"
    return regex.compile(letter), regex.compile(cluster)


def is_unspaced(text: str) -> bool:
    """Whether any sign of a text belongs to a script without spaces between words."""
    return not text.isascii() and _patterns()[0].search(text) is not None


def clusters(text: str) -> list[str]:
    """The letters of a text as readers count them (grapheme clusters); joined they are the text."""
    if text.isascii():
        return list(text)
    found: list[str] = _patterns()[1].findall(text)
    return found


def written_words(text: str) -> list[str]:
    """What alignments and ctm count as words: between spaces, or the letters of unspaced scripts."""
    return [piece for word in text.split() for piece in pieces(word)]


def pieces(word: str) -> list[str]:
    """The letters of a word in a script without spaces, else the word; joined they are the word.

    Letters of other scripts in it stay together, and signs stay with the letter before them, opening
    ones with the letter after them.
    """
    if not is_unspaced(word):
        return [word]
    found: list[str] = []
    kind = ""
    for cluster in clusters(word):
        before, kind = kind, _kind(cluster)
        follows = found and (
            kind == "closing" or before == "opening" or (kind == before == "spaced")
        )
        if follows:
            found[-1] += cluster
            kind = before if kind == "closing" and before == "opening" else kind
        else:
            found.append(cluster)
    return found


def _kind(cluster: str) -> str:
    """What a cluster is beside letters: one of a script with spaces or without, or a sign."""
    if not any(letter.isalnum() for letter in cluster):
        return "opening" if unicodedata.category(cluster[0]) in ("Ps", "Pi") else "closing"
    return "unspaced" if is_unspaced(cluster) else "spaced"


def columns(text: str) -> int:
    """How wide a text is: marks take no place, East Asian wide letters that of two."""
    return sum(
        0
        if unicodedata.category(letter) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def without_phrase_spaces(text: str) -> str:
    """A text without the spaces between two signs of scripts that divide no words by them."""
    first, *others = text.split(" ")
    joined = first
    for part in others:
        spaces = "" if is_unspaced(joined[-1:]) and is_unspaced(part[:1]) else " "
        joined += spaces + part
    return joined


def unspaced_share(texts: Iterable[str]) -> float:
    """The share of the letters of texts that belong to scripts without spaces; 0 without letters."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return sum(map(is_unspaced, letters)) / len(letters) if letters else 0.0


def joined_words(labels: Sequence[str]) -> str:
    """Words as a text: with a space between two of them, but where their script has none."""
    return without_phrase_spaces(" ".join(labels))

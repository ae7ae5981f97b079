"""Cuts words into what an aligner without a tokenizer places: letters with their marks, or phones."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import AlignedTokens, phones_of

NORMALIZER = "multilingual"
RARE = 20
"""A letter with marks that comes less often than this is taken for the letter alone."""
SPELLED_SHARE = 0.9
"""Texts of which so many words are one unit long are strings of phones."""
_TIES = "\u035c\u0361"
"""What ties two letters to one sound."""


@dataclass(frozen=True)
class AlignUnits:
    """The units of a corpus: of each silence, then ``units`` from 1 on."""

    units: tuple[str, ...]
    """Letters with or without marks, or phones; each once, sorted."""
    language: str | None
    """The espeak-ng voice whose pronunciations are taken; None for letters."""
    spelled: bool = False
    """Whether the texts are strings of phones or letters with blanks between them, as in ``k a t``. A
    pause is then expected at a sign that is no letter, as in ``k a t | s a t``, and not at each blank."""

    @classmethod
    def of(cls, texts: Iterable[str], language: str | None = None) -> AlignUnits:
        """The units of texts; those that are rare because of their marks share the bare letter's.

        Texts are taken for strings of phones where nine of ten words are one unit long.

        Args:
            texts: Of the corpus.
            language: A voice of espeak-ng, for phones; None for letters.
        """
        words = [cut(word, language) for text in texts for word in text.split()]
        counts = Counter(unit for units in words for unit in units)
        single = sum(len(units) == 1 for units in words)
        spelled = single >= SPELLED_SHARE * sum(bool(units) for units in words)
        kept = {unit for unit, count in counts.items() if count >= RARE}
        kept |= {bare(unit) for unit in counts.keys() - kept}
        return cls(tuple(sorted(kept)), language, spelled)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {unit: place for place, unit in enumerate(self.units)}

    @property
    def kind(self) -> str:
        """What a unit is called in alignments."""
        return "char" if self.language is None else "phone"

    def place(self, unit: str) -> int | None:
        """The number of a unit, or of its bare letter; None where neither is known."""
        return self._index.get(unit, self._index.get(bare(unit)))

    def encode(self, text: str) -> tuple[AlignedTokens, list[str]]:
        """A text as the aligner takes it, and the label of each token; unknown units are left out."""
        words = text.split()
        ids, owners, labels = [-1], [-1], [""]
        for index, word in enumerate(words):
            units = cut(word, self.language)
            known = [(unit, self.place(unit)) for unit in units]
            some = [(unit, place) for unit, place in known if place is not None]
            ids += [place for _, place in some]
            owners += [index] * len(some)
            labels += [unit for unit, _ in some]
            if labels[-1] and (not units if self.spelled else some):
                ids, owners, labels = [*ids, -1], [*owners, -1], [*labels, ""]
        if labels[-1]:
            ids, owners, labels = [*ids, -1], [*owners, -1], [*labels, ""]
        return AlignedTokens(ids, owners, words), labels

    def unknown(self, text: str) -> list[str]:
        """The units of a text that are not known, sorted."""
        units = {unit for word in text.split() for unit in cut(word, self.language)}
        return sorted(unit for unit in units if self.place(unit) is None)


def cut(word: str, language: str | None) -> list[str]:
    """The units of one word; empty for punctuation alone."""
    normal = normalize(word, NORMALIZER)
    if language is not None:
        return phones_of(normal, language) if normal else []
    return _letters(normal.replace(" ", ""))


def bare(unit: str) -> str:
    """The first letter of a unit, without its marks."""
    letters = [sign for sign in unicodedata.normalize("NFD", unit) if not _is_mark(sign)]
    return letters[0] if letters else unit


def _letters(word: str) -> list[str]:
    units: list[str] = []
    for sign in unicodedata.normalize("NFC", word):
        if units and (_is_mark(sign) or units[-1][-1] in _TIES):
            units[-1] += sign
        else:
            units.append(sign)
    return units


def _is_mark(sign: str) -> bool:
    """Whether a sign says how the letter before is said: accents, and the small letters of the IPA.

    Vowel signs of Indic scripts and the like are sounds of their own, and no marks.
    """
    return sign in _TIES or "\u0300" <= sign <= "\u036f" or "\u02b0" <= sign <= "\u02ff"

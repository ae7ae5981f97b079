"""Cuts words into what an aligner without a tokenizer places: letters with their marks, or phones."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from speechmm.options import EACH
from speechmm.text.ipa import TIES, fold_phone, is_mark, nearest_phones
from speechmm.text.lexicon import NORMALIZER, Lexicon
from speechmm.text.normalize import normalize
from speechmm.text.phonemes import unread_letters
from speechmm.text.tokenizer import AlignedTokens, phones_of

RARE = 20
"""A letter with marks that comes less often than this is taken for the letter alone."""
SPELLED_SHARE = 0.9
"""Texts of which so many words are one unit long are strings of phones."""
_GROUPED = re.compile(r"(?<![\d.,'’])\d{1,3}([.,'’])\d{3}(?:\1\d{3})*(?![.,'’]?\d)")


@dataclass(frozen=True)
class AlignUnits:
    """The units of a corpus: of each silence, then ``units`` from 1 on."""

    units: tuple[str, ...]
    """Letters with or without marks, or phones; each once, sorted."""
    language: str | None
    """The espeak-ng voice whose pronunciations are taken; ``EACH`` for one an utterance, None for
    letters."""
    spelled: bool = False
    """Whether the texts are strings of phones or letters with blanks between them, as in ``k a t``. A
    pause is then expected at a sign that is no letter, as in ``k a t | s a t``, and not at each blank."""
    shared: bool = False
    """Whether the units are phones that stand for those of all languages: ties and length make no
    difference, a phone that is not among them is taken for the likest, and each text without a voice
    may be a string of phones."""
    needs_lexicon: bool = False
    """Whether the units are those of a lexicon, without which no text has any."""
    lexicon: Lexicon | None = None
    """Pronounces the words it lists; None for none."""

    @classmethod
    def of(
        cls,
        texts: Iterable[tuple[str, str | None]],
        language: str | None = None,
        *,
        lexicon: Lexicon | None = None,
        rare: int = RARE,
    ) -> AlignUnits:
        """The units of texts; those that are rare because of their marks share the bare letter's.

        Texts are taken for strings of phones where nine of ten words are one unit long. Phones of a lexicon
        are all kept as they are.

        Args:
            texts: Of the corpus, each with the voice that pronounces it; None for letters.
            language: As it is kept; with ``EACH`` the units are shared by all languages.
            lexicon: Pronounces the words it lists.
            rare: How often a unit with marks comes at least.
        """
        shared = language == EACH
        asking = cls((), language, shared=shared, lexicon=lexicon)
        words = [
            variant
            for text, voice in texts
            for word, variants in zip(text.split(), asking.pronounce(text, voice), strict=True)
            if lexicon is None or language is not None or lexicon.variants(word)
            for variant in variants
        ]
        spelled = not shared and lexicon is None and is_spelled(words)
        if shared:
            words = [[fold_phone(unit) for unit in units] for units in words]
        counts = Counter(unit for units in words for unit in units)
        kept = {unit for unit, count in counts.items() if count >= rare or lexicon is not None}
        kept |= {bare(unit) for unit in counts.keys() - kept if not shared}
        needs_lexicon = lexicon is not None and not shared
        return cls(tuple(sorted(kept)), language, spelled, shared, needs_lexicon, lexicon)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {unit: place for place, unit in enumerate(self.units)}

    @property
    def kind(self) -> str:
        """What a unit is called in alignments."""
        return "char" if self.language is None and not self.needs_lexicon else "phone"

    def place(self, unit: str) -> int | None:
        """The number of a unit, of its bare letter or of the likest; None where none is known."""
        candidates = [unit, bare(unit)]
        if self.shared:
            folded = fold_phone(unit if self.lexicon is None else self.lexicon.ipa(unit))
            candidates = [folded, *nearest_phones(folded)]
        return next((self._index[one] for one in candidates if one in self._index), None)

    def pronounce(self, text: str, voice: str | None = None) -> list[list[list[str]]]:
        """The pronunciations of each word of a text, the first to be taken first; each as its units.

        Args:
            text: Words.
            voice: Pronounces them where the language is ``EACH``; None takes them as letters, or as
                strings of phones where they are.
        """
        said = voice if self.language == EACH else self.language
        words = []
        for word in text.split():
            listed = self.lexicon.variants(word) if self.lexicon is not None else ()
            words.append([list(one) for one in listed] if listed else [cut(word, said)])
        return words

    def takes_for_phones(self, said: Sequence[Sequence[str]], voice: str | None) -> bool:
        """Whether a text, by the units of its words, is a string of phones, or all texts are."""
        unspoken = self.shared and not voice and self.language == EACH
        return self.spelled or (unspoken and is_spelled(said))

    def encode(
        self,
        text: str,
        voice: str | None = None,
        *,
        said: Sequence[Sequence[str]] | None = None,
        spelled: bool | None = None,
    ) -> tuple[AlignedTokens, list[str]]:
        """A text as the aligner takes it, and the label of each token; unknown units are left out.

        Args:
            text: Words.
            voice: As :meth:`pronounce` takes it.
            said: The units of each word; its first pronunciation where not given.
            spelled: Whether it is a part of a string of phones; found out where not given.
        """
        words = text.split()
        if said is None:
            said = [variants[0] for variants in self.pronounce(text, voice)]
        if spelled is None:
            spelled = self.takes_for_phones(said, voice)
        ids, owners, labels = [-1], [-1], [""]
        for index, units in enumerate(said):
            known = [(unit, self.place(unit)) for unit in units]
            some = [(unit, place) for unit, place in known if place is not None]
            ids += [place for _, place in some]
            owners += [index] * len(some)
            labels += [unit for unit, _ in some]
            if labels[-1] and (not units if spelled else some):
                ids, owners, labels = [*ids, -1], [*owners, -1], [*labels, ""]
        if labels[-1]:
            ids, owners, labels = [*ids, -1], [*owners, -1], [*labels, ""]
        return AlignedTokens(ids, owners, words), labels

    def unknown(self, text: str, voice: str | None = None) -> list[str]:
        """The units of a text that are not known, and letters that its voice cannot read; sorted."""
        units = {
            unit
            for variants in self.pronounce(text, voice)
            for variant in variants
            for unit in variant
        }
        said = voice if self.language == EACH else self.language
        unread = unread_letters(text, said) if said is not None else set()
        return sorted({unit for unit in units if self.place(unit) is None} | unread)


def cut(word: str, language: str | None) -> list[str]:
    """The units of one word; empty for punctuation alone."""
    if language is not None:
        normal = normalize(_GROUPED.sub(_whole_number, word), NORMALIZER)
        return phones_of(normal, language) if normal else []
    normal = normalize(word, NORMALIZER)
    return _letters(normal.replace(" ", ""))


def _whole_number(figures: re.Match[str]) -> str:
    """A number of groups of three figures, 1,000 or 1.250.000, without the signs between them."""
    return re.sub(r"\D", "", figures[0])


def is_spelled(words: Sequence[Sequence[str]]) -> bool:
    """Whether words, by their units, are a string of phones: nine of ten are one unit long."""
    single = sum(len(units) == 1 for units in words)
    return single >= SPELLED_SHARE * sum(map(bool, words))


def bare(unit: str) -> str:
    """The first letter of a unit, without its marks."""
    letters = [sign for sign in unicodedata.normalize("NFD", unit) if not is_mark(sign)]
    return letters[0] if letters else unit


def _letters(word: str) -> list[str]:
    units: list[str] = []
    for sign in unicodedata.normalize("NFC", word):
        if units and (is_mark(sign) or units[-1][-1] in TIES):
            units[-1] += sign
        else:
            units.append(sign)
    return units

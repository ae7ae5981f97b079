"""Reads pronunciations of words: a word and its phones a line, as many lines as it has pronunciations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from speechmm.errors import ConfigError
from speechmm.files.text import read_text
from speechmm.text.normalize import normalize

NORMALIZER = "multilingual"
ARPABET = {
    "AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AX": "ə", "AXR": "ə", "AY": "aɪ", "B": "b",
    "CH": "tʃ", "D": "d", "DH": "ð", "DX": "ɾ", "EH": "ɛ", "EL": "l", "EM": "m", "EN": "n", "ER": "ɜ",
    "EY": "eɪ", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ", "IX": "ɨ", "IY": "i", "JH": "dʒ", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ", "S": "s",
    "SH": "ʃ", "T": "t", "TH": "θ", "UH": "ʊ", "UW": "u", "UX": "ʉ", "V": "v", "W": "w", "WH": "ʍ",
    "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
"""The signs of CMUdict and TIMIT in the IPA."""
_VARIANT = re.compile(r"\(\d+\)$")  # CMUdict's "READ(2)"
_NUMBER = re.compile(r"\d*\.\d+")  # probabilities in dictionaries of Montreal Forced Aligner
_STRESS = "0123456789"

Phones = tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """The pronunciations of words."""

    words: dict[str, tuple[Phones, ...]]
    """By the normalized word, in the order of the file; each once."""

    @cached_property
    def is_arpabet(self) -> bool:
        """Whether all phones are those of CMUdict (``AA1``)."""
        phones = {phone for variants in self.words.values() for one in variants for phone in one}
        return all(phone.rstrip(_STRESS) in ARPABET for phone in phones)

    def ipa(self, phone: str) -> str:
        """A phone in the signs of the IPA, stress left out of those of CMUdict; others as they are."""
        return ARPABET.get(phone.rstrip(_STRESS), phone) if self.is_arpabet else phone

    def variants(self, word: str) -> tuple[Phones, ...]:
        """The pronunciations of a word of a text; none where it is not listed.

        A word that the normalizer cuts in two (``e-mail``) is said as its parts are, the first
        pronunciation of each.
        """
        key = normalize(word, NORMALIZER)
        if key in self.words:
            return self.words[key]
        parts = [self.words.get(part) for part in key.split()]
        if not parts or None in parts:
            return ()
        return (tuple(phone for variants in parts if variants for phone in variants[0]),)

    def missing(self, words: Iterable[str]) -> list[str]:
        """The words that are not listed, each once, in their order; signs alone need no pronunciation."""
        absent = [word for word in words if normalize(word, NORMALIZER) and not self.variants(word)]
        return list(dict.fromkeys(absent))


def read_lexicon(path: Path) -> Lexicon:
    """The pronunciations of a file: of CMUdict, of Montreal Forced Aligner, of Kaldi.

    A word, then its phones, with tabs or spaces between them; probabilities after the word are passed
    over, and so are lines that begin with ``;;;``.

    Raises:
        ConfigError: The file cannot be read, holds no word, or a line holds no phone.
    """
    words: dict[str, dict[Phones, None]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith(";;;"):
            continue
        word, phones = _VARIANT.sub("", fields[0]), fields[1:]
        while phones and _NUMBER.fullmatch(phones[0]):
            phones = phones[1:]
        if not phones:
            raise ConfigError(
                f"{path}: line {number} holds a word, {word!r}, without phones; expected both, as in "
                "'cat k a t'. Correct it."
            )
        key = normalize(word, NORMALIZER)
        if key:
            words.setdefault(key, {})[tuple(phones)] = None
    if not words:
        raise ConfigError(
            f"{path}: it holds no word; expected one in each line, and its phones. Check the path."
        )
    return Lexicon({word: tuple(variants) for word, variants in words.items()})

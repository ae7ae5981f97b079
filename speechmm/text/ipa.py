"""Writes phones alike that are written differently, and finds like ones for those that are not known."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_DROPPED = str.maketrans(
    dict.fromkeys("\u035c\u0361\u02d0\u02d1[]{}.#\"-_^~`'|1234567890", "")
    | {
        "g": "ɡ",
        "?": "ʔ",
        "S": "ʃ",
        "Z": "ʒ",
        "X": "χ",
        "A": "ɑ",
        "E": "ɛ",
        "ε": "ɛ",
        "Φ": "ɸ",
        "ʦ": "ts",
        "ʣ": "dz",
        "ʧ": "tʃ",
        "ʤ": "dʒ",
        "ʨ": "tɕ",
        "ʥ": "dʑ",
        "ɚ": "ə",
        "ɝ": "ɜ",
        "ᵻ": "ɪ",
    }
)
"""Ties and length, which units share, signs of other alphabets, and those that espeak-ng leaves in some
languages."""
_NEAREST = (
    # Plosives, by place; implosives and clicks beside them.
    "p b ɓ", "b p ɓ β", "ɓ b p", "t d ʈ", "d t ɖ ɗ", "ɗ d ɖ", "ʈ t ɖ", "ɖ d ʈ", "c k tʃ tɕ", "ɟ ɡ dʒ",
    "ʄ ɟ ɡ", "k ɡ q", "ɡ k ɢ", "ɠ ɡ k", "q k ɢ", "ɢ ɡ q", "ʛ ɢ ɡ", "ʔ k t", "ʡ ʔ k", "ʘ p", "ǀ t k",
    "ǃ t k", "ǂ c t k", "ǁ t k",
    # Nasals, trills, taps.
    "m n", "ɱ m n", "n m ŋ", "ɳ n", "ɲ n ŋ", "ŋ n ɲ", "ɴ ŋ n", "ʙ b r", "r ɾ ɹ", "ʀ ʁ r", "ⱱ v w",
    "ɾ r ɹ d", "ɽ ɾ r", "ɺ ɾ l",
    # Fricatives.
    "ɸ f h", "β v b w", "f ɸ θ", "v ʋ β f", "θ s f", "ð d z v", "s ʃ z", "z s ʒ", "ʃ ʂ ɕ s", "ʒ ʐ ʑ z",
    "ʂ ʃ s", "ʐ ʒ z", "ɕ ʃ s", "ʑ ʒ z", "ç ʃ x h", "ʝ j ɟ", "x χ h", "ɣ ɡ ʁ x", "χ x h", "ʁ ɣ ʀ r",
    "ħ h χ", "ʕ ʔ ʁ h", "ʜ ħ h", "ʢ ʕ ʔ", "h ɦ x", "ɦ h", "ɬ ʃ s l", "ɮ l ʒ z", "ɧ ʃ x", "ʍ w f",
    # Approximants.
    "ʋ v w", "ɹ r ɾ", "ɻ ɹ r", "j i", "ɥ y j w", "ɰ ɣ w", "l ɫ ɭ", "ɫ l", "ɭ l", "ʎ l j", "ʟ ɫ l",
    "w u ʋ",
    # Vowels, by height and place.
    "i ɪ e", "y ʏ ʉ i", "ɨ ɪ i ə", "ʉ u y ɨ", "ɯ ɨ u", "u ʊ o", "ɪ i e", "ʏ y ɪ", "ʊ u o", "e ɛ ɪ",
    "ø œ e", "ɘ ə e", "ɵ ə ø o", "ɤ ʌ o ə", "o ɔ u", "ə ɐ ʌ ɛ", "ɛ e æ", "œ ø ɛ", "ɜ ə ɛ", "ɞ œ ə",
    "ʌ ɐ a ə", "ɔ o ɒ ɑ", "æ a ɛ", "ɐ a ə", "a ɑ ɐ æ", "ɶ œ a", "ɑ a ɒ", "ɒ ɔ ɑ",
)  # fmt: skip
_LIKE = {first: rest for first, *rest in map(str.split, _NEAREST)}


def fold_phone(phone: str) -> str:
    """A phone without ties and length, in the letters of the IPA; the phone itself if nothing is left."""
    folded = unicodedata.normalize("NFD", phone).translate(_DROPPED)
    return unicodedata.normalize("NFC", folded) or phone


def nearest_phones(phone: str) -> Iterator[str]:
    """Phones like this one, the likest first: without its marks, its first letter, and like letters.

    Args:
        phone: As :func:`fold_phone` writes it.
    """
    letters = [
        letter
        for sign in unicodedata.normalize("NFC", phone)
        for letter in (sign if sign in _LIKE else unicodedata.normalize("NFD", sign))
        if not is_mark(letter)
    ]
    yield "".join(letters)
    seen = letters[:1]
    for letter in seen:  # grows: first the letter, then those like it, then those like these
        yield letter
        seen += [like for like in _LIKE.get(letter, ()) if like not in seen]


def is_mark(sign: str) -> bool:
    """Whether a sign says how the letter before is said: accents, and the small letters of the IPA.

    Vowel signs of Indic scripts and the like are sounds of their own, and no marks.
    """
    return sign in TIES or "\u0300" <= sign <= "\u036f" or "\u02b0" <= sign <= "\u02ff"


TIES = "\u035c\u0361"
"""What ties two letters to one sound."""

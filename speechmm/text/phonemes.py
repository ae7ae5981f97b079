"""Pronounces words: their phones by espeak-ng's rules and dictionaries, in over a hundred languages."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections import Counter
from functools import lru_cache

from speechmm.errors import ConfigError
from speechmm.text.languages import language_code

_CACHED_WORDS = 1 << 17
VOICES = {"chr": "chr-US-Qaaa-x-west", "en": "en-us", "fr": "fr-fr", "no": "nb", "zh": "cmn"}
"""The voice of espeak-ng for a language where it is called otherwise."""
_SCRIPTS = {
    "LATIN": "la", "CYRILLIC": "ru", "GREEK": "el", "ARMENIAN": "hy", "GEORGIAN": "ka", "HEBREW": "he",
    "ARABIC": "ar", "ETHIOPIC": "am", "DEVANAGARI": "hi", "BENGALI": "bn", "GURMUKHI": "pa",
    "GUJARATI": "gu", "ORIYA": "or", "TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml",
    "SINHALA": "si", "THAI": "th", "MYANMAR": "my", "HANGUL": "ko", "HIRAGANA": "ja", "KATAKANA": "ja",
    "CJK": "cmn", "CHEROKEE": "chr-US-Qaaa-x-west",
}  # fmt: skip
"""The voice for texts in a script of which nobody says the language, by the letters' names in Unicode."""


def voice_of_script(text: str) -> str | None:
    """The voice for a text whose language is not known, by its letters; None where none is known."""
    scripts = Counter(map(_script, filter(str.isalpha, text)))
    if scripts["HIRAGANA"] or scripts["KATAKANA"]:  # nothing else is written with them
        return "ja"
    return next((_SCRIPTS[name] for name, _ in scripts.most_common() if name in _SCRIPTS), None)


def unread_letters(text: str, voice: str) -> set[str]:
    """Letters of a text that a voice calls by the name of their script, in place of reading them.

    espeak-ng reads no Chinese characters in Japanese: as kana they are read.
    """
    return {sign for sign in text if voice == "ja" and _script(sign) == "CJK"}


def _script(sign: str) -> str:
    return unicodedata.name(sign, "").split(" ")[0]


def has_espeak() -> bool:
    """Whether the extra ``synth`` is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def voice_of(language: str) -> str | None:
    """The voice that pronounces a language best; None where there is none.

    Args:
        language: A voice, or the code of a language: ``de``, ``en``, ``pt-BR``, ``sw-KE``.

    Raises:
        ConfigError: The extra ``synth`` is not installed.
    """
    from speechmm.text.espeak.library import load_espeak

    known = {name.casefold(): name for name in load_espeak().languages}
    code = language_code(language)
    while code:
        for name in (code, VOICES.get(code, "").casefold()):
            if name in known:
                return known[name]
        code = code.rpartition("-")[0]
    return None


def known_voice(language: str) -> str:
    """The voice that pronounces a language best (:func:`voice_of`).

    Raises:
        ConfigError: There is none.
    """
    known = voice_of(language)
    if known is None:
        raise ConfigError(
            f"--language: found {language!r}; expected a voice of espeak-ng, such as de or en-us. Choose "
            "one that is like the language."
        )
    return known


def phonemize(word: str, language: str) -> list[str]:
    """IPA phones of one word said on its own, without stress marks; empty for punctuation alone.

    Args:
        word: Without white space; with it, the phones of all its words.
        language: A code of espeak-ng, such as "en-us" or "de".

    Raises:
        ConfigError: The extra ``synth`` is not installed, or the language is unknown.
    """
    return list(_phonemize(word, language))


@lru_cache(maxsize=_CACHED_WORDS)
def _phonemize(word: str, language: str) -> tuple[str, ...]:
    from speechmm.text.espeak.library import load_espeak

    return tuple(phone for said in load_espeak().phonemes(word, language) for phone in said)

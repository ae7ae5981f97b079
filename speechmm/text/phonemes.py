"""Pronounces words: their phones by espeak-ng's rules and dictionaries, in over a hundred languages."""

from __future__ import annotations

from functools import lru_cache

_CACHED_WORDS = 1 << 17


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

"""Normalizes texts by one of a few named rules; a word error rate means nothing without the name."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, partial

from speechmm.errors import ConfigError
from speechmm.text.multilingual import normalize_words

# Characters people type for an apostrophe. Mapped before NFKC, which would split the acute accent.
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ＇´`", "'"))


class _BasicTable(dict[int, str]):
    """What "basic" maps a character to, by code point; filled in as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] in "LMN" or character == "'":
            kept = character
        elif category == "Cf":  # soft hyphens, joiners, byte order marks
            kept = ""
        else:
            kept = " "
        self[code] = kept
        return kept


_BASIC = _BasicTable()


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def _trim_word(word: str) -> str:
    """Drop apostrophes at the edges and accents that have lost their letter."""
    word = word.strip("'")
    while word and unicodedata.category(word[0])[0] == "M":
        word = word[1:].strip("'")
    return word


def _basic_once(text: str) -> str:
    text = _fold(text.translate(_APOSTROPHES)).translate(_BASIC)
    words = (_trim_word(re.sub("'+", "'", word)) for word in text.split())
    return " ".join(word for word in words if word)


def _verbatim(text: str) -> str:
    return " ".join(text.split())


_ASCII_APOSTROPHES = re.compile("'+")
_ASCII_BASIC = {
    code: _BASIC[ord("'" if code == ord("`") else chr(code).lower())] for code in range(128)
}


def _basic_ascii(text: str) -> str:
    """The same for plain English letters, which nothing of Unicode changes: ten times as fast."""
    text = text.translate(_ASCII_BASIC)
    if "'" in text:
        words = (word.strip("'") for word in _ASCII_APOSTROPHES.sub("'", text).split())
        return " ".join(word for word in words if word)
    return " ".join(text.split())


def _basic(text: str) -> str:
    if text.isascii():
        return _basic_ascii(text)
    # Removing a character can bring two others together that Unicode then joins: repeat until stable.
    while (normal := _basic_once(text)) != text:
        text = normal
    return text


@lru_cache(maxsize=1)
def _english_normalizer() -> Callable[[str], str]:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise ConfigError(
            'normalizer "english": the package whisper-normalizer is missing; expected it to be '
            'installed. Run "pip install whisper-normalizer" or choose the normalizer "basic".'
        ) from error
    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


def _english(text: str) -> str:
    text = _verbatim(_without_unclosed(text))
    normalizer = _english_normalizer()
    try:
        return _verbatim(normalizer(text))
    except Exception:  # it asserts that numbers have no more digits than Python reads
        return " ".join(filter(None, map(_english_word, text.split())))


def _english_word(word: str) -> str:
    try:
        return _verbatim(_english_normalizer()(word))
    except Exception:
        return _basic(word)


def _without_unclosed(text: str) -> str:
    """Brackets that nothing closes as spaces, which they become; Whisper looks for the end of each."""
    for opened, closed in (("(", ")"), ("<[", ">]")):
        end = max(text.rfind(sign) for sign in closed) + 1
        text = text[:end] + text[end:].translate(dict.fromkeys(map(ord, opened), " "))
    return text


NORMALIZERS: dict[str, Callable[[str], str]] = {
    "verbatim": _verbatim,
    "basic": _basic,
    "multilingual": normalize_words,
    "turkish": partial(normalize_words, turkic=True),
    "english": _english,
}
"""Every normalizer by name.

- ``verbatim`` strips the text and collapses white space, nothing else.
- ``basic`` folds case and Unicode variants (NFKC and case folding, which respell words of some
  languages), turns punctuation, symbols and hyphens into spaces and keeps apostrophes inside words.
  Tokenizers of earlier versions have it.
- ``multilingual`` is like it, and spells every word as its language does.
- ``turkish`` is the same for languages in which I is the capital of ı.
- ``english`` is Whisper's: numbers, contractions, spelling, fillers and titles too.
"""
DEFAULT_NORMALIZER = "multilingual"
FOLDED_NORMALIZERS = ("multilingual", "turkish")
"""After these, scores compare words as :func:`speechmm.text.multilingual.folded` has them."""


def normalize(text: str, name: str) -> str:
    """Normalise a text by the rules of one of ``NORMALIZERS``.

    Raises:
        ConfigError: there is no normalizer of that name.
    """
    check_normalizer(name)
    return NORMALIZERS[name](text)


def check_normalizer(name: str) -> None:
    """Raise a ``ConfigError`` that lists the choices unless ``name`` is a normalizer."""
    if name not in NORMALIZERS:
        raise ConfigError(
            f'normalizer: found "{name}"; expected one of {", ".join(NORMALIZERS)}. '
            "Correct the name."
        )

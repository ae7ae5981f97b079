"""Normalizes texts of any language without respelling a word: lower case, no punctuation, NFC.

What a model writes is what it learned, so nothing here may change how a word is spelled in any
language. `normalize` is called for one white-space word at a time: a word comes out alike wherever it
stands.

Sources: the Unicode Standard, version 15, chapters 6 to 16 (which signs belong to words in which
script); RFC 5892, appendix A (where zero-width joiners are part of a spelling).
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_APOSTROPHE, _MODIFIER = "'", "ʼ"
_APOSTROPHES = "'’‘‛`´＇′՚᾽"
"""What people type for an apostrophe."""
_GERESH, _GERSHAYIM, _DOUBLE_QUOTES = "׳", "״", '"“”„‟＂'
_DOT, _DOTS = "·", "·•‧⋅∙"
_DOTTED_PAIRS = ("ll", "nh", "sh")
"""Letters that a middle dot keeps apart: Catalan col·lecció, Occitan in·hèrn."""
_ZWNJ, _ZWJ, _MONGOLIAN_VOWEL_SEPARATOR = "\u200c", "\u200d", "\u180e"
_TSHEG = "་"
_BURMESE_WORDS = "၌၍၎၏"
"""Words of one sign each, which Unicode counts as punctuation."""
_KEPT_SIGNS = frozenset(
    _APOSTROPHE + _GERESH + _GERSHAYIM + _DOT + _TSHEG + _BURMESE_WORDS + "\u200c\u200d\u180e"
)
_STRETCHING = "\u0640\u07fa"  # Arabic and N'Ko: they make a word longer to look at
_INSIDE_ARMENIAN_WORDS = "\u055b\u055c\u055e\u055f"  # questions and exclamations stand on a vowel
_INVISIBLE = "\u034f\u115f\u1160\u3164"
_ENCLOSING = "".join(map(chr, range(0x20DD, 0x20E5)))  # keycaps
_VARIANTS = "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_DROPPED = frozenset(_STRETCHING + _INSIDE_ARMENIAN_WORDS + _INVISIBLE + _ENCLOSING + _VARIANTS)

_UNFOLDED_FORMS = ("<wide>", "<narrow>", "<initial>", "<medial>", "<final>", "<isolated>", "<font>")
"""Forms of letters for the eye; their plain letters are how words are spelled."""
_LIGATURES = frozenset("ŀĿĳĲŉſǄǅǆǇǈǉǊǋǌǱǲǳﬀﬁﬂﬃﬄﬅﬆﬓﬔﬕﬖﬗ")  # Armenian և is a letter of its own
_CHEROKEE = {
    **{code: code - 0xAB70 + 0x13A0 for code in range(0xAB70, 0xABC0)},
    **{code: code - 8 for code in range(0x13F8, 0x13FE)},
}
"""Cherokee is written in capitals, and in small letters by few."""
_TURKIC = frozenset("İıĞğ")
"""Letters of languages whose capital of ı is I."""

# Two ways to type one thing, of which canonical composition (NFC) knows nothing.
_SARA_AM = re.compile("([\u0e48-\u0e4b]?)\u0e4d([\u0e48-\u0e4b]?)\u0e32")  # Thai
_LAO_AM = re.compile("([\u0ec8-\u0ecb]?)\u0ecd([\u0ec8-\u0ecb]?)\u0eb2")
_CHILLU = re.compile("([കണനരലള])\u0d4d\u200d")  # Malayalam, before Unicode 5.1
_CHILLU_LETTERS = dict(zip("കണനരലള", "ൿൺൻർൽൾ", strict=True))

_SIGNS = re.compile(
    f"[{re.escape(_APOSTROPHES + _GERESH + _DOUBLE_QUOTES + _GERSHAYIM + _DOTS)}"
    f"{_ZWNJ}{_ZWJ}{_MONGOLIAN_VOWEL_SEPARATOR}]"
)


class _LetterTable(dict[int, str]):
    """What a character becomes, by code point; filled in as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = kept = _letters_of(character)
        return kept


def _letters_of(character: str) -> str:
    category = unicodedata.category(character)
    form, _, plain = unicodedata.decomposition(character).rpartition(">")
    folds = character in _LIGATURES or f"{form}>" in _UNFOLDED_FORMS
    # ½, Ⅳ, ² and ㎏ are read aloud; ™, Ⓜ and ℹ are pictures.
    folds |= category in ("No", "Nl") or (category == "So" and form in ("<square", "<compat"))
    if folds and plain and character != "ℹ":
        return "".join(_letters_of(chr(int(code, 16))) for code in plain.split())
    if character in _DROPPED:
        return ""
    if character in _KEPT_SIGNS or category[0] in "LMN":
        return character
    if character == "༌":
        return _TSHEG
    return "" if category == "Cf" else " "  # soft hyphens, marks of direction, byte order marks


_LETTERS = _LetterTable()


def _sign(match: re.Match[str]) -> str:
    """A sign that is part of a word in some places, as its neighbours have it."""
    sign, text = match[0], match.string
    before = text[match.start() - 1] if match.start() else ""
    after = text[match.end() : match.end() + 1]
    if sign in (_ZWNJ, _ZWJ, _MONGOLIAN_VOWEL_SEPARATOR):
        return sign if _is_spelled(sign, before, after) else ""
    if sign in _DOTS:
        return _DOT if (before + after).lower() in _DOTTED_PAIRS else " "
    if sign in _DOUBLE_QUOTES or sign == _GERSHAYIM:
        return _GERSHAYIM if _is_hebrew(before) and _is_hebrew(after) else " "
    if _is_hebrew(before):
        # An apostrophe at the end closes a quotation, but g', z' and ts' are letters of their own.
        is_letter = before in "גזץ" and not after.isalnum() and text[0] not in _APOSTROPHES
        if sign == _GERESH or _is_hebrew(after) or is_letter:
            return _GERESH
    return _APOSTROPHE


def _is_spelled(sign: str, before: str, after: str) -> bool:
    """Whether a joiner belongs to the spelling: beside a virama, or between letters that join."""
    if before == "" or (after == "" and sign != _ZWJ):
        return False
    if sign == _MONGOLIAN_VOWEL_SEPARATOR:
        return "\u1820" <= before <= "\u1842" and "\u1820" <= after <= "\u1842"
    if unicodedata.combining(before) == 9 or (after and unicodedata.combining(after) == 9):
        return True
    return sign == _ZWNJ and _is_arabic(before) and _is_arabic(after)


def _is_hebrew(letter: str) -> bool:
    """Whether it is a Hebrew letter or one of its points."""
    return "א" <= letter <= "ײ" or ("\u0591" <= letter <= "\u05c7" and letter != "־")


def _is_arabic(letter: str) -> bool:
    blocks = "\u0600" <= letter <= "\u077f" or "\u08a0" <= letter <= "\u08ff"
    return letter != "" and blocks and unicodedata.category(letter)[0] in "LM"


def _trimmed(word: str) -> str:
    """Without apostrophes and points at the edges, and without accents that have lost their letter."""
    edges = _APOSTROPHE + _TSHEG + _ZWNJ + _MONGOLIAN_VOWEL_SEPARATOR
    word = word.strip(edges)
    while word and (unicodedata.category(word[0])[0] == "M" or word[0] == _ZWJ):
        word = word[1:].strip(edges)
    word = re.sub("'+", "'", word)
    inner = word.strip(_MODIFIER)
    if not inner:
        return ""
    # U+02BC is a letter where a word begins or ends with it (Hausa), inside one it is an apostrophe.
    head, tail = word.index(inner), len(word) - len(word.rstrip(_MODIFIER))
    inner = inner.replace(_MODIFIER, _APOSTROPHE)
    return word[:head] + inner + word[len(word) - tail :]


def _once(word: str, *, turkic: bool) -> str:
    word = unicodedata.normalize("NFC", word)
    word = _CHILLU.sub(lambda match: _CHILLU_LETTERS[match[1]], word)
    word = _SIGNS.sub(_sign, word)
    word = unicodedata.normalize("NFC", word.translate(_LETTERS))
    if turkic or not _TURKIC.isdisjoint(word):
        word = word.replace("I", "ı")
    word = word.lower().translate(_CHEROKEE).replace("i\u0307", "i")
    word = unicodedata.normalize("NFC", word)
    word = _LAO_AM.sub("\\1\\2\u0eb3", _SARA_AM.sub("\\1\\2\u0e33", word))
    return " ".join(filter(None, map(_trimmed, word.split())))


@lru_cache(maxsize=1 << 16)
def _words_of(word: str, *, turkic: bool) -> str:
    if (
        word.isascii() and word.isalnum() and not turkic
    ):  # most words of lists: a shorter way to the same
        return word.lower()
    # Removing a sign can bring two others together that belong together: repeat until stable.
    while (normal := " ".join(_once(part, turkic=turkic) for part in word.split())) != word:
        word = " ".join(normal.split())
    return word


def normalize_words(text: str, *, turkic: bool = False) -> str:
    """The words of a text in lower case, without punctuation, spelled as they are.

    Args:
        text: In any language and any Unicode form.
        turkic: I is the capital of ı, as in Turkish and Azerbaijani. Otherwise only in words that
            have one of İ, ı and ğ.
    """
    words = (_words_of(word, turkic=turkic) for word in text.split())
    return " ".join(word for word in words if word)


def has_dotless_i(texts: Iterable[str]) -> bool:
    """Whether texts have letters of languages whose capital of ı is I."""
    return any(not _TURKIC.isdisjoint(text) for text in texts)


def folded(word: str) -> str:
    """A normalised word as scores compare it: without differences of typing.

    ß is ss, ς is σ, digits are 0 to 9 in every script; kinds of apostrophes, those at the edges and
    joiners without width do not count.
    """
    return word if word.isascii() else _folded(word)


@lru_cache(maxsize=1 << 16)
def _folded(word: str) -> str:
    letters = [
        str(unicodedata.decimal(letter)) if letter.isdecimal() else letter
        for letter in word.translate(_SAME_IN_SCORES).casefold()
    ]
    return "".join(letters).strip(_APOSTROPHE) or word


_SAME_IN_SCORES = str.maketrans(
    {**dict.fromkeys("ʻʼʽ׳", _APOSTROPHE), **dict.fromkeys([_ZWNJ, _ZWJ], "")}
)

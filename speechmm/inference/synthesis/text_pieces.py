"""Cuts texts into what a model speaks at once: sentences, and parts of those that are too long."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from speechmm.text.tokenizer import SIL, UNK, AlignedTokens, Tokenizer

SENTENCE_ENDS = tuple(".!?…。！？؟।")
CLOSING = "\"'”“’‘»«›‹)]）」』】"
"""What may stand after the end of a sentence; quotes are closed by other signs in other languages."""
ABBREVIATIONS = frozenset({
    "dr", "mr", "mrs", "ms", "st", "prof", "nr", "hr", "fr", "jr", "sr", "vs", "etc", "bzw", "ca", "vgl",
})  # fmt: skip
"""Words after whose full stop a sentence goes on, without it."""
PAUSES = tuple(",;:，、；：،")
LONGEST_WORD = 80
"""Letters of a word that is not cut; of more, it is a text without spaces, as in Chinese or Thai."""
_INITIALS = re.compile(r"([^\W\d_]\.)*[^\W\d_]")  # F, i.e, z.B
_CLAUSE = re.compile(f"[^{re.escape(''.join(SENTENCE_ENDS + PAUSES))}]*.?[{re.escape(CLOSING)}]*")


def spoken_tokens(tokenizer: Tokenizer, words: Sequence[str]) -> AlignedTokens:
    """Words as the aligner takes them, without what the tokenizer does not know.

    A word of which nothing is left has no token.
    """
    aligned = tokenizer.encode_aligned(" ".join(words))
    ids, owners = [SIL], [-1]
    for token, owner in zip(aligned.ids[1:], aligned.word_indices[1:], strict=True):
        if token != UNK and not (token == SIL and ids[-1] == SIL):
            ids.append(token)
            owners.append(owner)
    return AlignedTokens(ids, owners, aligned.words)


def cut_text(
    text: str, seconds_of: Callable[[Sequence[str]], Sequence[float]], most_seconds: float
) -> Iterator[list[str]]:
    """The words of each piece of a text, all of them in their order.

    Args:
        text: Of any length.
        seconds_of: How long each of some words lasts.
        most_seconds: Of a piece that has more than one word.
    """
    words = [part for word in text.split() for part in _short(word)]
    for sentence in _sentences(words):
        yield from _parts(sentence, seconds_of(sentence), most_seconds)


def _short(word: str) -> list[str]:
    """A word, or the parts of one that is too long: after signs of a pause, else anywhere.

    No mark is parted from its letter.
    """
    if len(word) <= LONGEST_WORD:
        return [word]
    parts = []
    for clause in _CLAUSE.findall(word):
        first = 0
        while first < len(clause):
            end = first + LONGEST_WORD
            while end < len(clause) and unicodedata.category(clause[end]).startswith("M"):
                end += 1
            parts.append(clause[first:end])
            first = end
    return parts


def _sentences(words: Sequence[str]) -> Iterator[list[str]]:
    """Words up to one that ends a sentence."""
    sentence: list[str] = []
    for word, following in pairwise([*words, ""]):
        sentence.append(word)
        if _ends_sentence(word, following):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _ends_sentence(word: str, following: str) -> bool:
    """Whether a sentence ends with a word, and not an abbreviation (Dr., z. B.) or an ordinal (3.)."""
    bare = word.rstrip(CLOSING)
    if not bare.endswith(SENTENCE_ENDS):
        return False
    stem = bare[:-1].lstrip("\"'“„»«(").casefold()
    if not bare.endswith(".") or bare.endswith("..") or not stem or not following:
        return True
    goes_on = stem in ABBREVIATIONS or _INITIALS.fullmatch(stem) or following[:1].islower()
    return not (goes_on or (stem.isdigit() and len(stem) < 3))


def _parts(
    words: Sequence[str], seconds: Sequence[float], most_seconds: float
) -> Iterator[list[str]]:
    """A sentence whole, or cut after the last pause that fits, or else after the last word that does."""
    first = 0
    while sum(seconds[first:]) > most_seconds and len(words) - first > 1:
        end, total, pause = first + 1, seconds[first], 0
        while end < len(words) and total + seconds[end] <= most_seconds:
            if words[end - 1].endswith(PAUSES) and total > most_seconds / 3:
                pause = end
            total += seconds[end]
            end += 1
        if end == len(words):
            break
        end = pause or end
        yield list(words[first:end])
        first = end
    yield list(words[first:])

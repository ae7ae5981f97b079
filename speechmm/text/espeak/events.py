"""Times phones and words of a synthesised utterance, to the sample, from espeak's events.

espeak queues a PHONEME event at the sample where a phone starts; the closure of a stop and other
pauses come before that event and are exactly zero (all but zero where an echo was taken out). So a
phone starts at its event, a stop at the beginning of the closure before it, and each ends where the
next phone, or the silence before that, begins. A WORD event only says which phones are whose: its
own time is early by a whole consonant where a vowel follows a nasal or a liquid, because espeak
draws such a consonant together with the vowel. An l or r that it draws together with the vowel
before it has no time of its own: the two are then one segment, such as "ɪl".

How exact: to the sample against the library. Against the ear, espeak's transitions belong to the
earlier phone: the energy of a vowel after a nasal is half way up 12 to 17 ms before the event, that
of a nasal after a vowel half way down 8 ms before it (medians of the spoken corpus).
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from speechmm.alignments import Segment
from speechmm.errors import AlignmentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

STOPS = "pbtdkgɡqcɟɖʈɢʔ"
"""First letters of the phones that begin with a closure: stops and affricates."""

_VOWELS = "aeiouyæøœɐɑɒɔɘəɚɛɜɝɞɤɨɪɯɵɶʉʊʌʏᵻ"
_MIN_SILENCE_SECONDS = 0.004  # of zeros; the shortest pause of a fast voice lasts 7 ms
_MIN_SECONDS = 0.002  # less is no phone; those espeak draws last 10 ms and more
_MAX_CLOSURE_SECONDS = 0.15  # a longer silence before a stop is a pause
_STRESS = str.maketrans("", "", "ˈˌ ")
_SWITCH = re.compile(r"\([\w-]*\)?")  # "(en)": what comes is said as in English; may be cut off


@dataclass(frozen=True)
class Event:
    """One event of the library."""

    kind: str
    """"word" or "phone"."""
    sample: int
    text_position: int
    """Of the word in the text, in characters from 0."""
    label: str = ""
    """The phone in IPA; empty for a pause and for a glide that has no sign of its own."""


@dataclass(frozen=True)
class _Phone:
    label: str
    start: int
    end: int
    word: int


def clean_phone(label: str) -> str:
    """A phone without stress marks, spaces and marks of a change of language."""
    return _SWITCH.sub("", label).translate(_STRESS)


def read_events(
    text: str,
    events: Sequence[Event],
    samples: NDArray[np.int16],
    sample_rate: int,
    pronounce: Callable[[str], list[list[str]]],
    *,
    quiet: int = 0,
) -> tuple[list[Segment], list[Segment]]:
    """Words (one for each whitespace word of the text, in order) and phones of an utterance.

    Args:
        text: What was to be said.
        events: In the order of the library, which is that of time.
        samples: The speech without echo.
        sample_rate: Hz of the samples.
        pronounce: Gives the phones of each word of a text on its own. espeak says some neighbours
            ("of the") as one word; the phones are then shared out by these.
        quiet: Largest size of a sample in a pause.

    Raises:
        AlignmentError: A word was not spoken.
    """
    words = text.split()
    phones = _place_phones(text, events, np.abs(samples.astype(np.int32)) > quiet, sample_rate)
    assigned = _assign_words(words, phones, pronounce)
    segments = [
        Segment(label=phone.label, start=phone.start / sample_rate, end=phone.end / sample_rate)
        for phone in phones
    ]
    spans: list[Segment] = []
    for index, word in enumerate(words):
        own = [segment for segment, owner in zip(segments, assigned, strict=True) if owner == index]
        if not own:
            raise AlignmentError(
                f"espeak: word {index + 1} of {text!r}, {word!r}, is not spoken; expected words "
                "that have a sound. Write signs out or remove them."
            )
        spans.append(Segment(label=word, start=own[0].start, end=own[-1].end))
    return spans, segments


def _place_phones(
    text: str, events: Sequence[Event], sounding: NDArray[np.bool_], sample_rate: int
) -> list[_Phone]:
    """The phones in time; ``word`` is the one espeak gave each to."""
    word_starts = [at for at, _ in _words_in(text)]
    sounded: list[tuple[str, int, int]] = []  # label, sample, word
    word = 0
    for event in events:
        if event.kind == "word":
            word = max(0, bisect_right(word_starts, event.text_position) - 1)
        elif event.label:
            sounded.append((event.label, event.sample, word))
    if not sounded:
        return []
    silent = _silence_lengths(sounding)
    first_at = sounded[0][1]
    pauses = [_run_before(silent, first_at, first_at)]
    for (_, earlier, _), (_, at, _) in itertools.pairwise(sounded):
        run = _run_before(silent, at, at - earlier)
        pauses.append(run if run >= _MIN_SILENCE_SECONDS * sample_rate else 0)
    ends = [at - pause for (_, at, _), pause in zip(sounded[1:], pauses[1:], strict=True)]
    ends.append(len(sounding) - _run_before(silent, len(sounding), len(sounding) - sounded[-1][1]))
    phones = []
    for index, ((label, at, owner), end) in enumerate(zip(sounded, ends, strict=True)):
        is_closure = label[0] in STOPS and pauses[index] <= _MAX_CLOSURE_SECONDS * sample_rate
        start = at - pauses[index] if index and is_closure else at
        phones.append(_Phone(label, start, end, owner))
    return _join_timeless(phones, round(_MIN_SECONDS * sample_rate))


def _join_timeless(phones: list[_Phone], min_length: int) -> list[_Phone]:
    """Phones without a time of their own become one with the phone before, in the same word."""
    joined: list[_Phone] = []
    for phone in phones:
        before = joined[-1] if joined else None
        if before and before.word == phone.word and phone.end - phone.start < min_length:
            label = before.label + phone.label
            joined[-1] = _Phone(label, before.start, max(before.end, phone.end), phone.word)
        else:
            joined.append(phone)
    return joined


def _words_in(text: str) -> list[tuple[int, str]]:
    """The whitespace words with their places, in characters from 0."""
    places = itertools.accumulate((len(part) for part in _split_keeping(text)), initial=0)
    return [
        (place, part)
        for place, part in zip(places, _split_keeping(text), strict=False)
        if not part.isspace()
    ]


def _split_keeping(text: str) -> list[str]:
    """The text cut into words and the white space between them."""
    return ["".join(run) for _, run in itertools.groupby(text, key=str.isspace)]


def _silence_lengths(sounding: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each sample, how many samples up to and with it are silent."""
    index = np.arange(len(sounding))
    last_sound = np.maximum.accumulate(np.where(sounding, index, -1))
    lengths: NDArray[np.int64] = index - last_sound
    return lengths


def _run_before(silent: NDArray[np.int64], sample: int, at_most: int) -> int:
    """How many samples right before this one are silent."""
    return min(int(silent[sample - 1]), at_most) if 0 < sample <= len(silent) else 0


def _assign_words(
    words: list[str], phones: list[_Phone], pronounce: Callable[[str], list[list[str]]]
) -> list[int]:
    """The word of every phone, after sharing out what espeak said as one word."""
    owners: list[int] = []
    for first, group in itertools.groupby(phones, key=lambda phone: phone.word):
        labels = [phone.label for phone in group]
        following = (phone.word for phone in phones[len(owners) + len(labels) :])
        last = next(following, len(words))
        counts = [len(labels)]
        if last - first > 1:
            expected = pronounce(" ".join(words[first:last]))
            counts = split_phones(labels, expected)
        for offset, count in enumerate(counts):
            owners += [first + offset] * count
    return owners


def split_phones(phones: Sequence[str], expected: Sequence[Sequence[str]]) -> list[int]:
    """How many of the phones belong to each word, given how each is said alone.

    The least total edit distance between each word's share and its expected phones; a vowel
    for another vowel costs less, since that is what changes in running speech.
    """
    joined = [phone for word in expected for phone in word]
    word_of = [index for index, word in enumerate(expected) for _ in word]
    costs = np.zeros((len(phones) + 1, len(joined) + 1))
    costs[:, 0] = np.arange(len(phones) + 1)
    costs[0, :] = np.arange(len(joined) + 1)
    for i, j in itertools.product(range(len(phones)), range(len(joined))):
        costs[i + 1, j + 1] = min(
            costs[i, j] + _difference(phones[i], joined[j]),
            costs[i, j + 1] + 1,
            costs[i + 1, j] + 1,
        )
    counts = [0] * len(expected)
    i, j = len(phones), len(joined)
    while i:
        if j and costs[i, j] == costs[i - 1, j - 1] + _difference(phones[i - 1], joined[j - 1]):
            i, j = i - 1, j - 1
            counts[word_of[j]] += 1
        elif j and costs[i, j] == costs[i, j - 1] + 1:
            j -= 1
        else:
            i -= 1
            counts[word_of[j - 1] if j else 0] += 1  # a linking r belongs to the word before
    return counts


def _difference(one: str, other: str) -> float:
    """0 for the same phone, 1.5 for a vowel against a consonant."""
    if one == other:
        return 0.0
    vowels = (one[:1] in _VOWELS, other[:1] in _VOWELS)
    return 1.5 if vowels[0] != vowels[1] else 0.5 if all(vowels) else 1.0

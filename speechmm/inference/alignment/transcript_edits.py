"""Where a text does not say what the audio says, by the second opinion of CTC.

The alignment head places every word it is given, also those nobody said. CTC was taught to write
what it hears, so it can be asked for the cheapest way to make the text fit: a path may drop words
and let speech in that is not in the text, each at a price in nats. A change is made where the audio
scores better by more than its price: a likelihood ratio test, searched jointly for all places by one
Viterbi search. Source: the likelihood ratio of Witt and Young 2000, "Phone-level pronunciation
scoring and assessment", equation 3; lattices with skips and fillers as in Bordel et al. 2012, "A
simple and efficient method to align very long speech signals to acoustically imperfect
transcriptions".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechmm.inference.alignment.ctc_labels import CtcText
from speechmm.inference.alignment.viterbi import Bools, Floats, Ints, ctc_states


@dataclass(frozen=True, kw_only=True)
class DoubtLimits:
    """Prices of changes to a text, nats: the audio must score better by more than that."""

    drop: float = 6.0
    """Of a word that is left out."""
    extra: float = 6.0
    """Of a stretch of speech that is not in the text; in place of a word, both prices are paid."""
    whole: float = 3.0
    """By how much the audio must score better without a word, per token, in half the words, for the
    whole transcript to be called wrong."""

    @classmethod
    def at_price(cls, price: float | None) -> DoubtLimits:
        """Both prices the same, in nats; None for the defaults."""
        return cls() if price is None else cls(drop=price, extra=price)


@dataclass(frozen=True)
class Doubts:
    """The changes that make a text fit best."""

    words: Ints
    """Index in the text of each word that CTC can write."""
    dropped: Bools
    """Whether that word is left out."""
    spans: Ints
    """(words + 1, 2): encoder frames, from and to, of speech that is not in the text, before each
    word and after the last; from and to are equal where there is none."""

    @property
    def extra(self) -> Bools:
        """Whether there is such speech before each word, and after the last."""
        found: Bools = self.spans[:, 1] > self.spans[:, 0]
        return found

    def stand_ins(self) -> Ints:
        """For each dropped word the gap whose speech stands in its place, else -1.

        Words that are dropped side by side share what lies before, between and after them.
        """
        gaps = np.full(len(self.dropped), -1, np.int64)
        extra, first = self.extra, 0
        for word in range(len(self.dropped)):
            if not self.dropped[word]:
                first = word + 1
            elif word + 1 == len(self.dropped) or not self.dropped[word + 1]:
                places = first + np.flatnonzero(extra[first : word + 2])
                if len(places):
                    gaps[first : word + 1] = places[0]
        return gaps


def find_doubts(log_probs: Floats, text: CtcText, limits: DoubtLimits) -> Doubts:
    """What CTC would change about a text.

    Args:
        log_probs: (encoder frames, vocab) of CTC.
        text: What is said to be said.
        limits: Prices of the changes.
    """
    from speechmm.models.kernels import transcript_edits as kernels  # slow to import: numba

    columns, _ = ctc_states(text.ids)
    scores = np.ascontiguousarray(log_probs, np.float32)
    words, first, end = text.word_edges()
    dropped = np.zeros(len(words), np.uint8)
    spans = np.zeros((len(words) + 1, 2), np.int64)
    kernels.cheapest_changes(
        scores,
        columns,
        2 * first + 1,
        2 * end - 1,
        limits.drop,
        limits.extra,
        dropped,
        spans,
    )
    _trim(spans, scores.max(axis=1) > scores[:, 0])
    return Doubts(words, dropped.astype(np.bool_), spans)


def _trim(spans: Ints, spoken: Bools) -> None:
    """Takes the silence off both ends of every span that has anything else."""
    for span in spans:
        inside = span[0] + np.flatnonzero(spoken[span[0] : span[1]])
        if len(inside):
            span[:] = inside[0], inside[-1] + 1

"""Finds the edits that make a text fit its audio best: words to leave out, speech to let in.

The alignment head places every word it is given, also those nobody said. CTC was trained without
knowing the text, so its posteriors can be searched for the best way to make the text fit: a path may
leave out words and pass through speech that is not in the text, each at a penalty in nats. An edit is
made where the audio scores better by more than its penalty: a likelihood ratio test, searched jointly
for all places by one Viterbi search. Source: the likelihood ratio of Witt and Young 2000,
"Phone-level pronunciation scoring and assessment", equation 3; lattices with skips and fillers as in
Bordel et al. 2012, "A simple and efficient method to align very long speech signals to acoustically
imperfect transcriptions".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechmm.inference.alignment.ctc_labels import CtcLabels
from speechmm.inference.alignment.viterbi import Bools, Floats, Ints, ctc_states
from speechmm.models.kernels import loading
from speechmm.options import EDIT_PENALTY


@dataclass(frozen=True, kw_only=True)
class EditPenalties:
    """Penalties of edits to a text, nats: the audio must score better by more than that."""

    drop: float = EDIT_PENALTY
    """Of a word that is left out."""
    extra: float = EDIT_PENALTY
    """Of one passage of speech that is not in the text; in place of a word, both penalties count."""
    whole: float = 3.0
    """By how much the audio must score better without a word, per token, in half the words, for the
    whole transcript to be called wrong."""

    @classmethod
    def equal(cls, penalty: float) -> EditPenalties:
        """Both penalties of an edit the same, in nats."""
        return cls(drop=penalty, extra=penalty)


@dataclass(frozen=True)
class TranscriptEdits:
    """The edits that make a text fit best."""

    words: Ints
    """Index in the text of each word that CTC can emit."""
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

    def replacements(self) -> Ints:
        """For each dropped word the gap between words whose speech stands in its place, else -1.

        Words that are dropped side by side share what lies before, between and after them.
        """
        gaps = np.full(len(self.dropped), -1, np.int64)
        extra, first = self.extra, 0
        for word in range(len(self.dropped)):
            if not self.dropped[word]:
                first = word + 1
            elif word + 1 == len(self.dropped) or not self.dropped[word + 1]:
                # Words [first, word] are dropped; gaps [first, word + 1] lie around and between them.
                places = first + np.flatnonzero(extra[first : word + 2])
                if len(places):
                    gaps[first : word + 1] = places[0]
        return gaps


def find_edits(log_probs: Floats, labels: CtcLabels, penalties: EditPenalties) -> TranscriptEdits:
    """The edits that CTC would make to a text.

    Args:
        log_probs: (encoder frames, vocab) of CTC.
        labels: The text.
        penalties: Of the edits.
    """
    kernels = loading.load("transcript_edits")
    columns, _ = ctc_states(labels.ids)
    scores = np.ascontiguousarray(log_probs, np.float32)
    words, first, end = labels.word_edges()
    dropped = np.zeros(len(words), np.uint8)
    spans = np.zeros((len(words) + 1, 2), np.int64)
    kernels.best_edits(
        scores,
        columns,
        2 * first + 1,  # label i is state 2 i + 1
        2 * end - 1,
        penalties.drop,
        penalties.extra,
        dropped,
        spans,
    )
    _trim(spans, scores.max(axis=1) > scores[:, 0])
    return TranscriptEdits(words, dropped.astype(np.bool_), spans)


def _trim(spans: Ints, spoken: Bools) -> None:
    """Takes the silence off both ends of every span that has anything else."""
    for span in spans:
        inside = span[0] + np.flatnonzero(spoken[span[0] : span[1]])
        if len(inside):
            span[:] = inside[0], inside[-1] + 1

"""Verifies transcripts against CTC posteriors: which words were not said, and what was said instead.

The alignment head labels frames with a given text, right or wrong. CTC was trained without knowing the
text: its posteriors show where a text and its audio differ, and give each word a confidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speechmm.alignments import Segment
from speechmm.errors import AlignmentError
from speechmm.inference.alignment.ctc_labels import CtcLabels, ctc_path, score_path, tokens_of_path
from speechmm.inference.alignment.ctc_utterances import CtcUtterance
from speechmm.inference.alignment.frame_times import FrameClock
from speechmm.inference.alignment.token_path import TokenPath
from speechmm.inference.alignment.transcript_edits import (
    EditPenalties,
    TranscriptEdits,
    find_edits,
)
from speechmm.inference.alignment.viterbi import Floats, Ints
from speechmm.text.tokenizer import AlignedTokens

NOT_SAID, WRONG_WORD, EXTRA_SPEECH = "not_said", "wrong_word", "extra_speech"
WRONG_TRANSCRIPT = "wrong_transcript"
MIN_PRIOR = 1e-4
"""A token rarer than this is treated as this frequent where priors are divided out."""


def wrong_transcript(seconds: float) -> str:
    """The flag of a recording of that length in which another text is said."""
    return f"{WRONG_TRANSCRIPT}: 0.00-{seconds:.2f} s"


@dataclass(frozen=True)
class Mismatch:
    """One place where the text does not say what the audio says."""

    kind: str
    """``NOT_SAID``, ``WRONG_WORD``, ``EXTRA_SPEECH`` or ``WRONG_TRANSCRIPT``."""
    label: str
    """The word of the text; empty where no single word is meant."""
    start: float
    end: float
    """Seconds."""

    def later(self, seconds: float) -> Mismatch:
        """The same mismatch in audio that begins so much earlier."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)

    def __str__(self) -> str:
        where = f"{self.start:.2f}-{self.end:.2f} s"
        return f"{self.kind}: {self.label} {where}" if self.label else f"{self.kind}: {where}"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How well one text fits its audio, by CTC."""

    path: TokenPath | None
    """Encoder frames of the aligned tokens; None where the audio has too few for the text."""
    clock: FrameClock
    """Of the encoder frames."""
    edits: TranscriptEdits | None
    """None where the audio has too few frames for the text."""
    misfit: bool
    """Whether the transcript as a whole is not what is said."""
    token_confidence: Floats
    """For each aligned token: the geometric mean, over its frames, of its probability relative to
    the likeliest token; 0 where it has no frame."""

    def rated(self, words: Sequence[Segment], aligned: AlignedTokens) -> list[Segment]:
        """Words another aligner has placed, with a confidence in both.

        It is the other aligner's confidence, times the mean confidence of CTC in the tokens of the
        word, times the share of these tokens that CTC places inside the word.
        """
        rated = list(words)
        owners = np.asarray(aligned.word_indices, np.int64)
        for index in np.unique(owners[owners >= 0]).tolist():
            word, tokens = words[index], np.flatnonzero(owners == index)
            by_ctc = float(self.token_confidence[tokens].mean()) * self._share_inside(word, tokens)
            rated[index] = replace(word, confidence=(word.confidence or 0.0) * by_ctc)
        return rated

    def mismatches(self, words: Sequence[Segment]) -> list[Mismatch]:
        """Where the text does not say what the audio says, in the order of time.

        Args:
            words: All words of the text, where another aligner has placed them.
        """
        return sorted(self._mismatches(words), key=lambda one: one.start)

    def _share_inside(self, word: Segment, tokens: Ints) -> float:
        """The share of some tokens whose middle, by CTC, lies in a word, an encoder frame wider."""
        if self.path is None:
            return 0.0
        middle = (self.path.first[tokens] + self.path.last[tokens] - 1) / 2 * self.clock.hop
        slack = self.clock.hop
        inside = (middle >= word.start - slack) & (middle <= word.end + slack)
        return float(inside.mean())

    def _mismatches(self, words: Sequence[Segment]) -> Iterator[Mismatch]:
        if self.misfit:
            yield Mismatch(WRONG_TRANSCRIPT, "", 0.0, self.clock.duration)
        edits = self.edits
        if edits is None:
            return
        # A dropped word whose place other speech takes is wrong; without such speech it is not said.
        gaps = edits.replacements()
        for place in np.flatnonzero(edits.dropped).tolist():
            word, gap = words[int(edits.words[place])], int(gaps[place])
            if gap < 0:
                yield Mismatch(NOT_SAID, word.label, word.start, word.end)
            else:
                yield Mismatch(WRONG_WORD, word.label, *self._span_seconds(edits, gap))
        # Speech beside a dropped word is counted with that word; elsewhere it is extra.
        for gap in np.flatnonzero(edits.extra).tolist():
            beside = edits.dropped[max(0, gap - 1) : gap + 1]
            if not beside.any():
                yield Mismatch(EXTRA_SPEECH, "", *self._span_seconds(edits, gap))

    def _span_seconds(self, edits: TranscriptEdits, gap: int) -> tuple[float, float]:
        first, last = edits.spans[gap].tolist()
        return self.clock.seconds(first), self.clock.seconds(last)


@dataclass(frozen=True, kw_only=True)
class TranscriptVerifier:
    """Compares texts with what CTC makes of their audio."""

    penalties: EditPenalties
    """From where on a text is called wrong."""
    label_prior: float = 0.0
    """How much of the label prior (the mean posterior of the utterance) is divided out before tokens
    are placed, 0 to 1: CTC then emits tokens for as long as they last. Source: Huang et al. 2024, "Less
    peaky and more accurate CTC forced alignment by label priors", equation 6, here when reading and
    not when training."""

    def verify(self, utterance: CtcUtterance) -> Verification:
        """How well the text of one utterance fits its audio."""
        log_probs, labels = utterance.log_probs, utterance.labels
        confidence = np.zeros(utterance.tokens, np.float32)
        # The path by which the fit is measured, and the one by which tokens are placed: the same
        # unless priors are divided out. (enc_frames,)
        scores = self._without_prior(log_probs)
        try:
            states = ctc_path(log_probs, labels, name="the utterance")
            excess = _excess(states, log_probs, labels)
            if self.label_prior:
                states = ctc_path(scores, labels, name="the utterance")
            path = tokens_of_path(states, scores, labels, utterance.tokens)
        except AlignmentError:  # fewer encoder frames than labels
            return Verification(
                path=None,
                clock=utterance.clock,
                edits=None,
                misfit=True,
                token_confidence=confidence,
            )
        # What each token loses against the best label of each of its frames. (tokens,)
        best = np.concatenate([[0.0], np.cumsum(scores.max(axis=1), dtype=np.float64)])
        frames = path.last - path.first
        loss = path.log_probs - (best[path.last] - best[path.first])
        has = frames > 0
        confidence[has] = np.exp(np.minimum(loss[has], 0.0) / frames[has])
        return Verification(
            path=path,
            clock=utterance.clock,
            edits=find_edits(log_probs, labels, self.penalties),
            misfit=excess >= self.penalties.whole,
            token_confidence=confidence,
        )

    def _without_prior(self, log_probs: Floats) -> Floats:
        """The scores with so much of the label prior divided out."""
        if not self.label_prior:
            return log_probs
        prior = np.exp(log_probs).mean(axis=0).clip(min=MIN_PRIOR)
        scores: Floats = log_probs - self.label_prior * np.log(prior)
        return scores


def _excess(states: Ints, log_probs: Floats, labels: CtcLabels) -> float:
    """How much better the audio scores without the text, nats per token: that of the middle word.

    Half the words must be wrong before this is large, however wrong they are.
    """
    along = score_path(states, log_probs, labels)
    words, first, end = labels.word_edges()
    # The word of each frame: that of its label; blanks go to the word before them. (enc_frames,)
    word = np.searchsorted(end, np.maximum(states - 1, 0) // 2, side="right").clip(
        max=len(words) - 1
    )
    # Summed over the frames of each word, per label; then the median of the words. (words,)
    loss = np.bincount(word, log_probs.max(axis=1) - along, minlength=len(words))
    return float(np.median(loss / (end - first)))

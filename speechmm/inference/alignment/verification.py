"""What CTC, which was taught to write and not to place, makes of a text that is being aligned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from speechmm.alignments import Segment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import AlignmentError
from speechmm.inference.alignment.ctc_labels import (
    CtcText,
    align_ctc_text,
    ctc_path,
    ctc_text,
    score_path,
    tokens_of_path,
)
from speechmm.inference.alignment.token_path import Anchor, FrameClock, TokenPath, word_segments
from speechmm.inference.alignment.transcript_edits import DoubtLimits, Doubts, find_doubts
from speechmm.inference.alignment.viterbi import (
    Floats,
    Ints,
    ctc_states,
    required_frames,
)
from speechmm.models.forward_sum import forward_backward
from speechmm.models.losses import BLANK
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import AlignedTokens, Tokenizer

NOT_SAID, WRONG_WORD, EXTRA_SPEECH = "not_said", "wrong_word", "extra_speech"
WRONG_TRANSCRIPT = "wrong_transcript"
OUTER_SHARE = 0.1
"""Share of a token's occupancy that may lie before its anchor, and after."""
SMALLEST_PRIOR = 1e-4
"""A token rarer than this is treated as this frequent where priors are divided out."""


@dataclass(frozen=True)
class Doubt:
    """One place where the text does not say what the audio says."""

    kind: str
    """``NOT_SAID``, ``WRONG_WORD``, ``EXTRA_SPEECH`` or ``WRONG_TRANSCRIPT``."""
    label: str
    """The word of the text; empty where no single word is meant."""
    start: float
    end: float
    """Seconds."""

    def later(self, seconds: float) -> Doubt:
        """The same doubt in audio that begins so much earlier."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)

    def __str__(self) -> str:
        where = f"{self.start:.2f}-{self.end:.2f} s"
        return f"{self.kind}: {self.label} {where}" if self.label else f"{self.kind}: {where}"


@dataclass(frozen=True)
class Opinion:
    """What CTC hears of one text."""

    path: TokenPath | None
    """Encoder frames of the aligned tokens; None where the audio has too few for the text."""
    clock: FrameClock
    doubts: Doubts | None
    """None where the audio has too few frames for the text."""
    misfit: bool
    """Whether the transcript as a whole is not what is said."""
    heard: Floats
    """For each aligned token: the geometric mean, over its frames, of its probability relative to
    the likeliest token; 0 where it has no frame."""
    anchor: Anchor | None
    """Where the tokens are heard, for another aligner; None where the text does not fit at all
    or nobody asked."""

    def judge(
        self, words: Sequence[Segment], aligned: AlignedTokens
    ) -> tuple[list[Segment], list[Doubt]]:
        """Words another aligner has placed, with confidence in both, and what is doubtful.

        The confidence of a word is the other aligner's, times how well CTC hears its tokens, times
        the share of its tokens that CTC hears where the other aligner has the word.
        """
        judged = list(words)
        owners = np.asarray(aligned.word_indices, np.int64)
        for index in np.unique(owners[owners >= 0]).tolist():
            word, tokens = words[index], np.flatnonzero(owners == index)
            trust = float(self.heard[tokens].mean()) * self._agreement(word, tokens)
            judged[index] = replace(word, confidence=(word.confidence or 0.0) * trust)
        return judged, sorted(self._doubts(words), key=lambda doubt: doubt.start)

    def _agreement(self, word: Segment, tokens: Ints) -> float:
        if self.path is None:
            return 0.0
        middle = (self.path.first[tokens] + self.path.last[tokens] - 1) / 2 * self.clock.hop
        slack = self.clock.hop
        inside = (middle >= word.start - slack) & (middle <= word.end + slack)
        return float(inside.mean())

    def _doubts(self, words: Sequence[Segment]) -> Iterator[Doubt]:
        if self.misfit:
            yield Doubt(WRONG_TRANSCRIPT, "", 0.0, self.clock.duration)
        if self.doubts is None:
            return
        gaps = self.doubts.stand_ins()
        for place in np.flatnonzero(self.doubts.dropped).tolist():
            word, gap = words[int(self.doubts.words[place])], int(gaps[place])
            if gap < 0:
                yield Doubt(NOT_SAID, word.label, word.start, word.end)
            else:
                yield Doubt(WRONG_WORD, word.label, *self._seconds(self.doubts, gap))
        for gap in np.flatnonzero(self.doubts.extra).tolist():
            beside = self.doubts.dropped[max(0, gap - 1) : gap + 1]
            if not beside.any():
                yield Doubt(EXTRA_SPEECH, "", *self._seconds(self.doubts, gap))

    def _seconds(self, doubts: Doubts, gap: int) -> tuple[float, float]:
        first, last = doubts.spans[gap].tolist()
        return self.clock.seconds(first), self.clock.seconds(last)


class SecondOpinion:
    """Asks CTC about the texts of encoded speech."""

    def __init__(
        self,
        model: SpeechTextModel,
        tokenizer: Tokenizer,
        features: LogMelConfig,
        *,
        limits: DoubtLimits,
        label_prior: float = 0.0,
    ) -> None:
        """Prepares the questions.

        Args:
            model: Has the CTC head.
            tokenizer: Says how CTC was taught to write.
            features: Say how long a frame is.
            limits: From where on a text is doubted.
            label_prior: How much of the label prior (the mean posterior of the utterance) is
                divided out before tokens are placed, 0 to 1: CTC then says tokens for as long as
                they last. Source: Huang et al. 2024, "Less peaky and more accurate CTC forced
                alignment by label priors", equation 6, here when reading and not when training.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.features = features
        self.limits = limits
        self.label_prior = label_prior
        self.space = tokenizer.separator

    def ask(
        self,
        encoding: SpeechEncoding,
        texts: Sequence[AlignedTokens],
        seconds: Sequence[float],
        *,
        anchored: bool = True,
    ) -> list[Opinion]:
        """An opinion on the text of each utterance.

        Args:
            encoding: The encoded speech.
            texts: What is said in each.
            seconds: Of audio of each.
            anchored: Whether another aligner needs the anchors.
        """
        return [
            self._opinion(scores, text, length, anchored)
            for scores, text, length in zip(self._scores(encoding), texts, seconds, strict=True)
        ]

    def anchors(
        self, encoding: SpeechEncoding, texts: Sequence[AlignedTokens]
    ) -> list[Anchor | None]:
        """Where the tokens of each text are heard, and nothing else."""
        found: list[Anchor | None] = []
        for scores, aligned in zip(self._scores(encoding), texts, strict=True):
            text = ctc_text(self.tokenizer, aligned)
            needed = required_frames(ctc_states(text.ids)[1])
            fits = needed <= len(scores)
            found.append(self._anchor(scores, text, len(aligned.ids)) if fits else None)
        return found

    def words(
        self, encoding: SpeechEncoding, texts: Sequence[AlignedTokens], seconds: Sequence[float]
    ) -> list[list[Segment] | None]:
        """The words of each text where CTC has them, and nothing else.

        None for a text without a word, or with more tokens than there are encoder frames.
        """
        found: list[list[Segment] | None] = []
        for scores, aligned, length in zip(self._scores(encoding), texts, seconds, strict=True):
            text = ctc_text(self.tokenizer, aligned)
            try:
                path = align_ctc_text(scores, text, len(aligned.ids), name="the utterance")
            except AlignmentError:
                found.append(None)
                continue
            clock = self._clock(len(scores), length)
            found.append(word_segments(path, aligned, clock) if text.ids else None)
        return found

    def _clock(self, frames: int, seconds: float) -> FrameClock:
        hop = self.model.subsampling * self.features.frame_shift
        return FrameClock(hop=hop, frames=frames, duration=seconds)

    def _scores(self, encoding: SpeechEncoding) -> Iterator[Floats]:
        """The log-probabilities of CTC of each utterance."""
        with torch.inference_mode():
            log_probs = self.model.ctc_log_probs(encoding).float().cpu().numpy()
        for row, length in enumerate(encoding.enc_lengths.tolist()):
            yield self._quiet(log_probs[row, :length])

    def _opinion(
        self, log_probs: Floats, aligned: AlignedTokens, seconds: float, anchored: bool
    ) -> Opinion:
        text = ctc_text(self.tokenizer, aligned)
        clock = self._clock(len(log_probs), seconds)
        scores = log_probs
        if self.label_prior:
            prior = np.exp(log_probs).mean(axis=0).clip(min=SMALLEST_PRIOR)
            scores = log_probs - self.label_prior * np.log(prior)
        heard = np.zeros(len(aligned.ids), np.float32)
        try:
            states = ctc_path(log_probs, text, name="the utterance")
            excess = _excess(states, log_probs, text)
            if self.label_prior:
                states = ctc_path(scores, text, name="the utterance")
            path = tokens_of_path(states, scores, text, len(aligned.ids))
        except AlignmentError:  # fewer encoder frames than tokens
            return Opinion(None, clock, None, True, heard, None)
        best = np.concatenate([[0.0], np.cumsum(scores.max(axis=1), dtype=np.float64)])
        frames = path.last - path.first
        loss = path.log_probs - (best[path.last] - best[path.first])
        has = frames > 0
        heard[has] = np.exp(np.minimum(loss[has], 0.0) / frames[has])
        misfit = excess >= self.limits.whole
        doubts = find_doubts(log_probs, text, self.limits)
        anchor = self._anchor(log_probs, text, len(aligned.ids)) if anchored else None
        return Opinion(path, clock, doubts, misfit, heard, anchor)

    def _anchor(self, log_probs: Floats, text: CtcText, tokens: int) -> Anchor:
        """Where all but the outer tenths of the occupancy of each token lie."""
        columns, skippable = ctc_states(text.ids)
        scores = torch.from_numpy(np.ascontiguousarray(log_probs[:, columns]))[None]
        sizes = torch.tensor([len(log_probs)]), torch.tensor([len(columns)])
        _, occupancy = forward_backward(scores, *sizes, torch.from_numpy(skippable)[None])
        share = occupancy[0, :, 1::2].double().cumsum(0).numpy()
        share /= share[-1:].clip(min=1e-9)
        first = (share > OUTER_SHARE).argmax(axis=0) * self.model.subsampling
        last = (share >= 1 - OUTER_SHARE).argmax(axis=0) * self.model.subsampling
        anchor = Anchor(np.full(tokens, -np.inf, np.float32), np.full(tokens, np.inf, np.float32))
        for place, count, begin, end in zip(text.first, text.count, first, last, strict=True):
            anchor.first[place : place + count] = begin
            anchor.last[place : place + count] = end
        return anchor

    def _quiet(self, log_probs: Floats) -> Floats:
        """The same scores, where blank is as good as a space: some models write spaces in silence."""
        if self.space is None:
            return log_probs
        out: Floats = log_probs.copy()
        np.maximum(out[:, BLANK], out[:, self.space], out=out[:, BLANK])
        return out


def _excess(states: Ints, log_probs: Floats, text: CtcText) -> float:
    """How much better the audio scores without the text, nats per token: that of the middle word.

    Half the words must be wrong before this is large, however wrong they are.
    """
    along = score_path(states, log_probs, text)
    words, first, end = text.word_edges()
    word = np.searchsorted(end, np.maximum(states - 1, 0) // 2, side="right").clip(
        max=len(words) - 1
    )
    loss = np.bincount(word, log_probs.max(axis=1) - along, minlength=len(words))
    return float(np.median(loss / (end - first)))

"""Pairs texts with the CTC log-probabilities of their audio, to align and to verify them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from speechmm.alignments import Segment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import AlignmentError
from speechmm.inference.alignment.ctc_labels import CtcLabels, align_labels, ctc_labels
from speechmm.inference.alignment.frame_times import FrameClock, FrameGrid
from speechmm.inference.alignment.token_path import word_segments
from speechmm.inference.alignment.viterbi import Floats
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import BLANK, AlignedTokens, Tokenizer


@dataclass(frozen=True, kw_only=True)
class CtcUtterance:
    """One utterance, as posteriors of the CTC head, and its text, as labels of CTC."""

    log_probs: Floats
    """(encoder frames, vocab)."""
    labels: CtcLabels
    """The text."""
    tokens: int
    """Aligned tokens of the text, silences included."""
    clock: FrameClock
    """Of the encoder frames."""
    subsampling: int
    """Feature frames per encoder frame."""


class CtcPosteriors:
    """Computes CTC posteriors of encoded speech, each with the labels of its text and its clock."""

    def __init__(
        self, model: SpeechTextModel, tokenizer: Tokenizer, features: LogMelConfig
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.grid = FrameGrid.of(features, model.subsampling)

    def utterances(
        self, encoding: SpeechEncoding, texts: Sequence[AlignedTokens], seconds: Sequence[float]
    ) -> Iterator[CtcUtterance]:
        """The utterances of a batch, one after another.

        Args:
            encoding: The encoded speech.
            texts: What is said in each utterance.
            seconds: Of audio of each.
        """
        with torch.inference_mode():
            log_probs = self.model.ctc_log_probs(encoding).float().cpu().numpy()
        frames = encoding.enc_lengths.tolist()
        for row, (text, length) in enumerate(zip(texts, seconds, strict=True)):
            yield CtcUtterance(
                log_probs=self._spaces_as_blanks(log_probs[row, : frames[row]]),
                labels=ctc_labels(self.tokenizer, text),
                tokens=len(text.ids),
                clock=self.grid.clock(frames[row], length),
                subsampling=self.model.subsampling,
            )

    def _spaces_as_blanks(self, log_probs: Floats) -> Floats:
        """The same scores, where blank is as good as a space: some models emit spaces in silence."""
        space = self.tokenizer.separator
        if space is None:
            return log_probs
        out: Floats = log_probs.copy()
        np.maximum(out[:, BLANK], out[:, space], out=out[:, BLANK])
        return out


def place_by_ctc(utterance: CtcUtterance, text: AlignedTokens) -> list[Segment] | None:
    """The words of a text where CTC places them, to an encoder frame.

    None for a text without a word, or with more labels than there are encoder frames.
    """
    labels, log_probs = utterance.labels, utterance.log_probs
    if not labels.ids:
        return None
    try:
        path = align_labels(log_probs, labels, utterance.tokens, name="the utterance")
    except AlignmentError:
        return None
    return word_segments(path, text, utterance.clock)

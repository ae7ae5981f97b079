"""A text as CTC was taught to write it, and where CTC hears each part of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from speechmm.errors import AlignmentError
from speechmm.inference.alignment.token_path import TokenPath
from speechmm.inference.alignment.viterbi import (
    Floats,
    Ints,
    ctc_states,
    monotonic_path,
    required_frames,
)
from speechmm.text.tokenizer import AlignedTokens, Tokenizer


@dataclass(frozen=True)
class CtcText:
    """The ids CTC was taught to write for a text, and what each covers of ``AlignedTokens.ids``."""

    ids: list[int]
    first: list[int]
    """Place of the first aligned token an id covers."""
    count: list[int]
    """Aligned tokens it covers: 1 for a character, more for "ing", 0 for a space."""
    word: list[int]
    """Index of its word in ``AlignedTokens.words``; -1 for the space between two words."""

    def word_edges(self) -> tuple[Ints, Ints, Ints]:
        """The words that have ids: index in the text, first id, and one past the last."""
        owners = np.asarray(self.word, np.int64)
        spoken = np.flatnonzero(owners >= 0)
        words, first, count = np.unique(owners[spoken], return_index=True, return_counts=True)
        return words, spoken[first], spoken[first + count - 1] + 1


def ctc_text(tokenizer: Tokenizer, aligned: AlignedTokens) -> CtcText:
    """A text as CTC was taught to write it; silences are left out."""
    space = tokenizer.separator
    text = CtcText([], [], [], [])
    owners = np.asarray(aligned.word_indices, np.int64)
    words, places = np.unique(owners, return_index=True)
    for word, first in zip(words.tolist(), places.tolist(), strict=True):
        if word < 0:
            continue
        spans = tokenizer.encode_spans(aligned.words[word])
        if space is not None and text.ids:
            _append(text, space, first, 0, -1)
        place = first
        for token, count in spans:
            _append(text, token, place, count, word)
            place += count
    return text


def _append(text: CtcText, token: int, place: int, count: int, word: int) -> None:
    text.ids.append(token)
    text.first.append(place)
    text.count.append(count)
    text.word.append(word)


def align_ctc_text(log_probs: Floats, text: CtcText, tokens: int, *, name: str) -> TokenPath:
    """:func:`ctc_path` as encoder frames of the aligned tokens, ``tokens`` with their silences."""
    return tokens_of_path(ctc_path(log_probs, text, name=name), log_probs, text, tokens)


def ctc_path(log_probs: Floats, text: CtcText, *, name: str) -> Ints:
    """The state (see ``ctc_states``) of each encoder frame on the best path of CTC through a text.

    Args:
        log_probs: Scores (encoder frames, vocab); need not be normalised.
        text: What is said.
        name: Of the audio, for messages.

    Raises:
        AlignmentError: The text has more tokens than the audio has encoder frames, or the search
            would take more memory than it may.
    """
    columns, skippable = ctc_states(text.ids)
    needed = required_frames(skippable)
    if needed > len(log_probs):
        raise AlignmentError(
            f"{name}: the text is longer than the audio allows: it needs {needed} encoder frames "
            f"and the audio has {len(log_probs)}; expected audio at least as long as its text. "
            "Check that the text belongs to the audio."
        )
    try:
        return monotonic_path(log_probs, skippable=skippable, columns=columns)
    except AlignmentError as error:
        raise AlignmentError(f"{name}: {error}") from error


def score_path(states: Ints, log_probs: Floats, text: CtcText) -> Floats:
    """The score of each encoder frame along a path."""
    columns, _ = ctc_states(text.ids)
    along: Floats = log_probs[np.arange(len(states)), columns[states]]
    return along


def tokens_of_path(states: Ints, log_probs: Floats, text: CtcText, tokens: int) -> TokenPath:
    """The CTC path as encoder frames of the aligned tokens; silences have none.

    Tokens that CTC writes as one share its frames equally.
    """
    visited, first, counts = np.unique(states, return_index=True, return_counts=True)
    sums = np.add.reduceat(score_path(states, log_probs, text), first)
    spoken = visited % 2 == 1
    written = visited[spoken] // 2
    covered = np.asarray(text.count, np.int64)[written]
    row = np.repeat(np.arange(len(written)), covered)
    number = np.arange(len(row)) - np.repeat(np.cumsum(covered) - covered, covered)
    target = np.asarray(text.first, np.int64)[written][row] + number
    frames, start, share = counts[spoken][row], first[spoken][row], covered[row]
    firsts, lasts = np.zeros(tokens, np.int64), np.zeros(tokens, np.int64)
    log_prob = np.zeros(tokens, np.float32)
    firsts[target] = start + frames * number // share
    lasts[target] = start + frames * (number + 1) // share
    log_prob[target] = sums[spoken][row] / share
    return TokenPath(firsts, lasts, log_prob)

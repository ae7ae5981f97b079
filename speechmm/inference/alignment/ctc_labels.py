"""Turns texts into the label sequences of CTC, and CTC paths into frames of the aligned tokens."""

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
class CtcLabels:
    """The labels CTC was trained on for a text, and what each covers of ``AlignedTokens.ids``."""

    ids: list[int]
    first: list[int]
    """Place of the first aligned token a label covers."""
    count: list[int]
    """Aligned tokens it covers: 1 for a character, more for "ing", 0 for a space."""
    word: list[int]
    """Index of its word in ``AlignedTokens.words``; -1 for the space between two words."""

    def word_edges(self) -> tuple[Ints, Ints, Ints]:
        """The words that have labels: index in the text, first label, and one past the last."""
        owners = np.asarray(self.word, np.int64)
        spoken = np.flatnonzero(owners >= 0)
        words, first, count = np.unique(owners[spoken], return_index=True, return_counts=True)
        return words, spoken[first], spoken[first + count - 1] + 1


def ctc_labels(tokenizer: Tokenizer, aligned: AlignedTokens) -> CtcLabels:
    """The label sequence of a text; silences are left out."""
    space = tokenizer.separator
    labels = CtcLabels([], [], [], [])
    owners = np.asarray(aligned.word_indices, np.int64)
    found = np.unique(owners, return_index=True, return_counts=True)
    for word, first, length in zip(*(one.tolist() for one in found), strict=True):
        if word < 0:
            continue
        if aligned.pronounced:
            spans = [(token, 1) for token in aligned.ids[first : first + length]]
        else:
            spans = tokenizer.encode_spans(aligned.words[word])
        if space is not None and labels.ids:
            _append(labels, space, first, 0, -1)
        place = first
        for token, count in spans:
            _append(labels, token, place, count, word)
            place += count
    return labels


def _append(labels: CtcLabels, token: int, place: int, count: int, word: int) -> None:
    labels.ids.append(token)
    labels.first.append(place)
    labels.count.append(count)
    labels.word.append(word)


def align_labels(log_probs: Floats, labels: CtcLabels, tokens: int, *, name: str) -> TokenPath:
    """:func:`ctc_path` as encoder frames of the aligned tokens, ``tokens`` with their silences."""
    return tokens_of_path(ctc_path(log_probs, labels, name=name), log_probs, labels, tokens)


def ctc_path(log_probs: Floats, labels: CtcLabels, *, name: str) -> Ints:
    """The state (see ``ctc_states``) of each encoder frame on the best path of CTC through its labels.

    Args:
        log_probs: Scores (encoder frames, vocab); need not be normalised.
        labels: What is said.
        name: Of the audio, for messages.

    Raises:
        AlignmentError: The text has more tokens than the audio has encoder frames, or the search
            would take more memory than it may.
    """
    columns, skippable = ctc_states(labels.ids)
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


def score_path(states: Ints, log_probs: Floats, labels: CtcLabels) -> Floats:
    """The score of each encoder frame along a path."""
    columns, _ = ctc_states(labels.ids)
    along: Floats = log_probs[np.arange(len(states)), columns[states]]
    return along


def tokens_of_path(states: Ints, log_probs: Floats, labels: CtcLabels, tokens: int) -> TokenPath:
    """The CTC path as encoder frames of the aligned tokens; silences have none.

    Tokens that CTC emits as one label share its frames equally.
    """
    # Each state on the path: its first frame, its number of frames, its summed score. (visited,)
    visited, first, counts = np.unique(states, return_index=True, return_counts=True)
    sums = np.add.reduceat(score_path(states, log_probs, labels), first)
    # Odd states are labels, even ones blanks; how many aligned tokens each label covers. (written,)
    spoken = visited % 2 == 1
    written = visited[spoken] // 2
    covered = np.asarray(labels.count, np.int64)[written]
    # For each covered token: the row of its label in `written`, and its number within the label.
    row = np.repeat(np.arange(len(written)), covered)
    number = np.arange(len(row)) - np.repeat(np.cumsum(covered) - covered, covered)
    target = np.asarray(labels.first, np.int64)[written][row] + number
    # The frames of a label in equal parts, to the aligned tokens at `target`; the others stay empty.
    frames, start, share = counts[spoken][row], first[spoken][row], covered[row]
    firsts, lasts = np.zeros(tokens, np.int64), np.zeros(tokens, np.int64)
    log_prob = np.zeros(tokens, np.float32)
    firsts[target] = start + frames * number // share
    lasts[target] = start + frames * (number + 1) // share
    log_prob[target] = sums[spoken][row] / share
    return TokenPath(firsts, lasts, log_prob)

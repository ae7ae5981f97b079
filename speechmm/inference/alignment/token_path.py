"""Finds the frames of each token of a known text, and the words and tokens as timed segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.alignments import Segment
from speechmm.alignments.word_pieces import may_be_cut
from speechmm.inference.alignment.frame_times import FrameClock
from speechmm.inference.alignment.viterbi import (
    Bools,
    Doubles,
    Floats,
    Ints,
    best_paths,
    required_frames,
)
from speechmm.text.tokenizer import AlignedTokens


@dataclass(frozen=True)
class TokenEdges:
    """The boundaries of each token in frames and their fractions; boundary ``b`` lies before frame ``b``.

    Each is (tokens, 3): the median of all paths by their probability between two boundaries that
    hold the true edge in eight of ten cases.
    """

    starts: Doubles
    ends: Doubles


@dataclass(frozen=True)
class TokenPath:
    """The frames of each token of one utterance; a silence that was left out has none."""

    first: Ints
    """First frame of each token."""
    last: Ints
    """One past the last frame of each token; equal to ``first`` where it has none."""
    log_probs: Floats
    """Sum of the log-probabilities of each token over its frames."""
    edges: TokenEdges | None = None
    """Where the tokens begin and end between frames; None where only whole frames are known."""

    def bounds(self, first: int, last: int) -> tuple[float, float]:
        """The boundaries of a run of tokens: of its first token's start and its last one's end."""
        if self.edges is None:
            return float(self.first[first]), float(self.last[last])
        return float(self.edges.starts[first, 1]), float(self.edges.ends[last, 1])

    def later(self, frames: int) -> TokenPath:
        """The same path so many frames later."""
        edges = self.edges
        if edges is not None:
            edges = TokenEdges(edges.starts + frames, edges.ends + frames)
        return replace(self, first=self.first + frames, last=self.last + frames, edges=edges)

    def confidence(self, tokens: Ints) -> float:
        """The geometric mean probability of the frames of some tokens, in [0, 1]."""
        frames = int((self.last[tokens] - self.first[tokens]).sum())
        if frames == 0:
            return 0.0
        return float(min(1.0, np.exp(self.log_probs[tokens].sum() / frames)))


def silence_mask(aligned: AlignedTokens) -> Bools:
    """True for the silences, which a path may leave out."""
    silent: Bools = np.asarray(aligned.word_indices, np.int64) == -1
    return silent


def frames_needed(aligned: AlignedTokens) -> int:
    """The fewest frames (10 ms) that can hold the text."""
    return required_frames(silence_mask(aligned))


def find_paths(
    scores: Float[Tensor, "batch frames tokens"],
    frame_lengths: Int[Tensor, " batch"],
    texts: Sequence[AlignedTokens],
    costs: Float[Tensor, "batch frames tokens"] | None = None,
) -> list[TokenPath]:
    """The best path of each utterance through its scores, found where the scores are.

    Args:
        scores: Log-probabilities over the tokens of each frame.
        frame_lengths: Valid frames.
        texts: The tokens.
        costs: Nats taken off the scores in the search alone.

    Raises:
        AlignmentError: An utterance has fewer frames than its text needs.
    """
    scores = scores.detach().float()
    lengths = [len(text.ids) for text in texts]
    skippable = np.zeros((len(texts), scores.shape[2]), np.bool_)
    for row, text in enumerate(texts):
        skippable[row, : len(text.ids)] = silence_mask(text)
    # The search sees the costs; the log-probabilities of the paths are those without them.
    searched = scores if costs is None else scores - costs
    found = best_paths(searched, frame_lengths, torch.tensor(lengths), skippable)
    along = scores.gather(2, found[:, :, None])[:, :, 0].cpu().numpy()
    paths = found.cpu().numpy()
    return [
        path_of_states(path[:frames], values[:frames], length)
        for path, values, frames, length in zip(
            paths, along, frame_lengths.tolist(), lengths, strict=True
        )
    ]


def word_segments(path: TokenPath, aligned: AlignedTokens, clock: FrameClock) -> list[Segment]:
    """One segment per word of the text, labelled as it is written.

    Silence between words belongs to none. A word without any token (a dash) gets an empty segment
    at the end of the word before it.
    """
    # The spoken tokens of word i are spoken[edges[i] : edges[i + 1]]. (tokens,), (words + 1,)
    owners = np.asarray(aligned.word_indices, np.int64)
    spoken = np.flatnonzero(owners >= 0)
    edges = np.searchsorted(owners[spoken], np.arange(len(aligned.words) + 1))
    segments: list[Segment] = []
    for label, first, last in zip(aligned.words, edges[:-1], edges[1:], strict=True):
        if first == last:
            end = segments[-1].end if segments else 0.0
            segments.append(Segment(label=label, start=end, end=end))
        else:
            word = _segment(path, spoken[first:last], label, clock)
            if may_be_cut(label):
                own = spoken[first:last].tolist()
                starts = (clock.seconds(path.bounds(one, one)[0]) for one in own)
                word = replace(word, letter_starts=tuple(at - word.start for at in starts))
            segments.append(word)
    return segments


def token_segments(
    path: TokenPath, aligned: AlignedTokens, labels: Sequence[str], clock: FrameClock
) -> list[Segment]:
    """One segment per token that is not silence."""
    return [
        _segment(path, np.array([token]), labels[token], clock)
        for token, word in enumerate(aligned.word_indices)
        if word >= 0
    ]


def _segment(path: TokenPath, tokens: Ints, label: str, clock: FrameClock) -> Segment:
    first, last = int(tokens[0]), int(tokens[-1])
    start, end = map(clock.seconds, path.bounds(first, last))
    segment = Segment(label=label, start=start, end=end, confidence=path.confidence(tokens))
    if path.edges is None:
        return segment
    ranges = path.edges.starts[first, ::2], path.edges.ends[last, ::2]
    (a, b), (c, d) = (map(clock.seconds, pair) for pair in ranges)
    return replace(segment, start_range=(a, b), end_range=(c, d))


def path_of_states(path: Ints, log_probs: Floats, tokens: int) -> TokenPath:
    """The frames of each token of a path.

    Args:
        path: The token of each frame, never falling. (frames,)
        log_probs: Of each frame along the path. (frames,)
        tokens: Of the text, those that the path leaves out, too.
    """
    # A path never falls, so that the frames of each visited token are one run. (visited,)
    visited, first, counts = np.unique(path, return_index=True, return_counts=True)
    firsts = np.zeros(tokens, np.int64)
    lasts = np.zeros(tokens, np.int64)
    sums = np.zeros(tokens, np.float32)
    firsts[visited] = first
    lasts[visited] = first + counts
    sums[visited] = np.add.reduceat(log_probs, first)
    return TokenPath(firsts, lasts, sums)

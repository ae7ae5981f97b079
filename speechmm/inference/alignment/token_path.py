"""Where each token of a known text lies in the frames, and the words and characters that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.alignments import Segment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.alignment.viterbi import (
    Bools,
    Floats,
    Ints,
    monotonic_paths,
    required_frames,
)
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import AlignedTokens


@dataclass(frozen=True)
class TokenPath:
    """The frames of each token of one utterance; a silence that was left out has none."""

    first: Ints
    """First frame of each token."""
    last: Ints
    """One past the last frame of each token; equal to ``first`` where it has none."""
    log_probs: Floats
    """Sum of the log-probabilities of each token over its frames."""

    def confidence(self, tokens: Ints) -> float:
        """The geometric mean probability of the frames of some tokens, in [0, 1]."""
        frames = int((self.last[tokens] - self.first[tokens]).sum())
        if frames == 0:
            return 0.0
        return float(min(1.0, np.exp(self.log_probs[tokens].sum() / frames)))


ANCHOR_SLACK_SECONDS = 0.06
"""A token may lie this far from where CTC hears it at no cost."""
ANCHOR_NATS_PER_SECOND = 100.0
"""What a frame of a token costs for lying farther away."""
ANCHOR_NATS = 5.0
"""The most it costs: where the head is surer than this, it is believed."""


@dataclass(frozen=True)
class Anchor:
    """Where CTC hears the tokens of one utterance."""

    first: Floats
    """Frame from which each aligned token is likely; -inf where CTC does not say."""
    last: Floats
    """Last such frame; inf where CTC does not say."""

    def costs(self, frames: int, hop: float) -> Floats:
        """Nats to take off the score of each token in each frame: (frames, tokens).

        The head places tokens to 10 ms, but among like sounds it can lose count, above all in
        voices it has not heard; CTC counts well and places badly.
        """
        frame = np.arange(frames, dtype=np.float32)[:, None]
        away = np.maximum(self.first[None, :] - frame, frame - self.last[None, :]) * hop
        cost = ((away - ANCHOR_SLACK_SECONDS) * ANCHOR_NATS_PER_SECOND).clip(0.0, ANCHOR_NATS)
        out: Floats = cost.astype(np.float32)
        return out


@dataclass(frozen=True, kw_only=True)
class FrameClock:
    """Turns frame boundaries into seconds.

    Frames are centred: frame ``i`` covers half a hop on either side of ``i`` hops, so the boundary
    before it lies half a hop earlier. The first frame begins and the last one ends with the audio.
    """

    hop: float
    """Seconds from frame to frame."""
    frames: int
    """Frames of the utterance."""
    duration: float
    """Seconds of the utterance."""
    offset: float = 0.0
    """Where the utterance begins, in frames."""

    @classmethod
    def of(cls, features: LogMelConfig, frames: int, duration: float) -> FrameClock:
        """The clock of an utterance of so many frames and seconds."""
        return cls(hop=features.hop_length / features.sample_rate, frames=frames, duration=duration)

    def seconds(self, boundary: int) -> float:
        """The time before frame ``boundary``; ``frames`` gives the end of the audio."""
        if boundary >= self.frames:
            return self.duration
        return min(self.duration, max(0.0, (boundary - 0.5 - self.offset) * self.hop))


def silence_mask(aligned: AlignedTokens) -> Bools:
    """True for the silences, which a path may leave out."""
    silent: Bools = np.asarray(aligned.word_indices, np.int64) == -1
    return silent


def frames_needed(aligned: AlignedTokens) -> int:
    """The fewest frames (10 ms) that can hold the text."""
    return required_frames(silence_mask(aligned))


def align_encoded(
    model: SpeechTextModel,
    encoding: SpeechEncoding,
    texts: Sequence[AlignedTokens],
    *,
    anchors: Sequence[Anchor | None] = (),
    hop: float = 0.01,
) -> tuple[Float[Tensor, "batch frames tokens"], list[TokenPath]]:
    """Aligns a batch of texts to a batch of encoded speech.

    Args:
        model: Has the alignment head.
        encoding: The speech.
        texts: What is said in each utterance.
        anchors: Where CTC hears the tokens of each utterance, where it is to be heeded.
        hop: Seconds from feature frame to feature frame, for the anchors.

    Returns:
        The scores (log-probabilities over the tokens of each frame, on the CPU) and the paths.

    Raises:
        AlignmentError: An utterance has fewer frames than its text needs.
    """
    lengths = torch.tensor([len(text.ids) for text in texts])
    tokens = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
    for row, text in enumerate(texts):
        tokens[row, : len(text.ids)] = torch.tensor(text.ids)
    device = encoding.encoded.device
    with torch.inference_mode():
        scores = model.align_scores(encoding, tokens.to(device)).float().cpu()
    costs = [
        None if anchor is None else anchor.costs(int(frames), hop)
        for anchor, frames in zip(anchors, encoding.lengths.tolist(), strict=False)
    ]
    return scores, find_paths(scores, encoding.lengths, texts, costs)


def find_paths(
    scores: Float[Tensor, "batch frames tokens"],
    frame_lengths: Int[Tensor, " batch"],
    texts: Sequence[AlignedTokens],
    costs: Sequence[Floats | None] = (),
) -> list[TokenPath]:
    """The best path of each utterance through its scores.

    Args:
        scores: Log-probabilities over the tokens of each frame.
        frame_lengths: Valid frames.
        texts: The tokens.
        costs: (frames, tokens) of some utterances, taken off their scores in the search alone.

    Raises:
        AlignmentError: An utterance has fewer frames than its text needs.
    """
    values = scores.detach().cpu().numpy().astype(np.float32, copy=False)
    lengths = np.array([len(text.ids) for text in texts])
    skippable = np.zeros((len(texts), values.shape[2]), np.bool_)
    for row, text in enumerate(texts):
        skippable[row, : len(text.ids)] = silence_mask(text)
    frames = frame_lengths.cpu().numpy()
    searched = values.copy() if any(cost is not None for cost in costs) else values
    for row, cost in enumerate(costs):
        if cost is not None:
            searched[row, : cost.shape[0], : cost.shape[1]] -= cost
    paths = monotonic_paths(searched, frames, lengths, skippable=skippable)
    return [
        _token_path(path, row[np.arange(len(path)), path], length)
        for path, row, length in zip(paths, values, lengths.tolist(), strict=True)
    ]


def word_segments(path: TokenPath, aligned: AlignedTokens, clock: FrameClock) -> list[Segment]:
    """One segment per word of the text, labelled as it is written.

    Silence between words belongs to none. A word without any token (a dash) gets an empty segment
    at the end of the word before it.
    """
    owners = np.asarray(aligned.word_indices, np.int64)
    spoken = np.flatnonzero(owners >= 0)
    edges = np.searchsorted(owners[spoken], np.arange(len(aligned.words) + 1))
    segments: list[Segment] = []
    for label, first, last in zip(aligned.words, edges[:-1], edges[1:], strict=True):
        if first == last:
            end = segments[-1].end if segments else 0.0
            segments.append(Segment(label=label, start=end, end=end))
        else:
            segments.append(_segment(path, spoken[first:last], label, clock))
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
    return Segment(
        label=label,
        start=clock.seconds(int(path.first[tokens[0]])),
        end=clock.seconds(int(path.last[tokens[-1]])),
        confidence=path.confidence(tokens),
    )


def _token_path(path: Ints, log_probs: Floats, tokens: int) -> TokenPath:
    visited, first, counts = np.unique(path, return_index=True, return_counts=True)
    firsts = np.zeros(tokens, np.int64)
    lasts = np.zeros(tokens, np.int64)
    sums = np.zeros(tokens, np.float32)
    firsts[visited] = first
    lasts[visited] = first + counts
    sums[visited] = np.add.reduceat(log_probs, first)
    return TokenPath(firsts, lasts, sums)

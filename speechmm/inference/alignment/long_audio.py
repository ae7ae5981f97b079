"""Cuts long audio and its text into segments, between words, where a first search leaves the largest gaps.

The alignment head compares every frame with every token of the text. For an hour that is too much
memory, and unlike anything it was trained on. CTC does not see the text, so it scores the hour
block by block; one Viterbi search over all of it places every word to 40 or 80 ms, without drift,
because every frame is in the same search. A model without CTC is searched by what its alignment head
says of pairs of frames before it sees the text. Between words the audio is cut, and the alignment head
places the words of each segment to 10 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import AlignmentError
from speechmm.inference.alignment.ctc_labels import align_labels, ctc_labels
from speechmm.inference.alignment.frame_times import FrameClock, FrameGrid
from speechmm.inference.alignment.token_path import (
    TokenPath,
    frames_needed,
    path_of_states,
    silence_mask,
)
from speechmm.inference.alignment.viterbi import Doubles, Floats, Ints, monotonic_path
from speechmm.inference.engine.sample_window import SampleWindow
from speechmm.inference.engine.waveform_encoder import WaveformEncoder
from speechmm.models.front_end import length_mask
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import AlignedTokens, Tokenizer

BLOCK_SECONDS = 30.0
"""Audio the encoder sees at once, without its context."""
CONTEXT_SECONDS = 2.0
"""Audio before and after a block that the encoder sees too; its output there is thrown away."""
BLOCKS_PER_BATCH = 2
HEAD_FRAMES = 2
"""So many frames (20 ms) are one in a first search by the alignment head; fewer where the text is dense."""
ROOM = 2
"""Times the frames that a text needs, which that search should have."""

MIN_SEGMENT_SECONDS = 5.0
MAX_SEGMENT_SECONDS = 20.0
"""A segment ends at the largest gap between words that lies this far from its start."""
MARGIN_SECONDS = 2.0
"""Audio kept before the first and after the last word of a segment; longer silence is left out."""
QUIET_SECONDS = 0.05
"""Within a gap the cut goes to the quietest place, averaged over this long."""


@dataclass(frozen=True)
class AudioSegment:
    """A part of the audio with the part of the text that is said in it, and its path of that search."""

    waveform: SampleWindow
    """Of the whole audio, from which this part may be taken until the next segment is asked for."""
    first_sample: int
    last_sample: int
    """One past the end."""
    aligned: AlignedTokens
    path: TokenPath
    """In frames of ``clock``: of the encoder by CTC, of the features by the alignment head."""
    clock: FrameClock


@dataclass(frozen=True)
class TextWords:
    """The words with tokens: their times and their places in the text."""

    first: Ints
    """First frame."""
    last: Ints
    """One past the last frame."""
    text_index: Ints
    """Index in ``AlignedTokens.words``."""
    first_token: Ints
    """Index in ``AlignedTokens.ids``."""
    last_token: Ints
    """One past the last token of the word."""


def segment_audio(
    encoder: WaveformEncoder,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    blocks: Callable[[], Iterable[Float[Tensor, " samples"]]],
    aligned: AlignedTokens,
    *,
    name: str,
    expected_samples: int = 0,
) -> Iterator[AudioSegment]:
    """Cuts long audio and its text into segments of at most about 20 s, in the order of time.

    The audio is read twice and never held as a whole: once to be searched, once to be cut.

    Args:
        encoder: Gives the scores of CTC, or of the alignment head where CTC was not trained.
        tokenizer: Whose labels CTC emits.
        features: Say how long a frame is.
        blocks: Reads the audio from its beginning.
        aligned: The whole text.
        name: Of the audio, for messages.
        expected_samples: How long the audio says that it is.

    Raises:
        AlignmentError: The text has more tokens than the audio has frames (of the encoder, by CTC), or
            the search would take more memory than it may.
    """
    model, stride = encoder.model, 1
    by_ctc = "ctc" in model.heads
    if by_ctc:
        scorer = ctc_scorer(model)
    else:
        stride = _head_stride(aligned, features.num_frames(expected_samples))
        scorer = head_scorer(model, np.unique(aligned.ids), stride)
    window = SampleWindow(blocks())
    log_probs, samples = block_log_probs(
        encoder, scorer, features, window, expected_samples=expected_samples
    )
    if by_ctc:
        labels = ctc_labels(tokenizer, aligned)
        path = align_labels(log_probs, labels, len(aligned.ids), name=name)
        grid = FrameGrid.of(features, model.subsampling)
    else:
        path = _path_by_head(log_probs, aligned, stride, features.num_frames(samples), name=name)
        grid = FrameGrid.of(features)
    del log_probs
    waveform = SampleWindow(blocks())
    yield from _Cutter(waveform, samples, aligned, path, words_of(aligned, path), grid).segments()


@dataclass(frozen=True)
class BlockScorer:
    """What a model says of each frame before it sees a text."""

    log_probs: Callable[[SpeechEncoding], Float[Tensor, "batch frames columns"]]
    """Natural logs."""
    columns: int
    stride: int
    """Feature frames per frame of the scores."""


def ctc_scorer(model: SpeechTextModel) -> BlockScorer:
    """The scores of CTC, of each encoder frame over the vocabulary."""
    return BlockScorer(model.ctc_log_probs, model.vocab_size, model.subsampling)


def head_scorer(model: SpeechTextModel, ids: Ints, stride: int) -> BlockScorer:
    """The scores of the alignment head.

    Args:
        model: Has the head.
        ids: The aligned tokens that are columns of the scores. (columns,)
        stride: Feature frames whose mean is a frame of the scores.
    """

    def log_probs(encoding: SpeechEncoding) -> Tensor:
        heard = model.align_log_probs(encoding)
        heard = heard[:, :, torch.from_numpy(ids).to(heard.device)]
        valid = length_mask(encoding.lengths, heard.shape[1])[:, :, None]
        parts = torch.split(heard.masked_fill(~valid, 0.0), stride, dim=1)
        counts = torch.split(valid.float(), stride, dim=1)
        # Of the last frame, which may have fewer, and of padding, which has none.
        pairs = zip(parts, counts, strict=True)
        means = [part.sum(dim=1) / count.sum(dim=1).clamp(min=1.0) for part, count in pairs]
        return torch.stack(means, dim=1)

    return BlockScorer(log_probs, len(ids), stride)


def _head_stride(aligned: AlignedTokens, frames: int) -> int:
    """How many frames of the alignment head are one in the first search."""
    return max(1, min(HEAD_FRAMES, frames // (ROOM * frames_needed(aligned))))


def _path_by_head(
    log_probs: Floats, aligned: AlignedTokens, stride: int, frames: int, *, name: str
) -> TokenPath:
    """The feature frames of each token, by scores of :func:`head_scorer` for all tokens of the text."""
    columns: Ints = np.searchsorted(np.unique(aligned.ids), aligned.ids)
    try:
        states = monotonic_path(log_probs, skippable=silence_mask(aligned), columns=columns)
    except AlignmentError as error:
        raise AlignmentError(f"{name}: {error}") from error
    along = log_probs[np.arange(len(states)), columns[states]]
    path = path_of_states(states, along, len(aligned.ids))
    first, last = (np.minimum(stride * one, frames) for one in (path.first, path.last))
    return TokenPath(first, last, stride * path.log_probs)


def block_log_probs(
    encoder: WaveformEncoder,
    scorer: BlockScorer,
    features: LogMelConfig,
    waveform: SampleWindow,
    *,
    expected_samples: int = 0,
) -> tuple[Floats, int]:
    """Log-probabilities (frames, columns) of audio of any length, and its samples.

    Args:
        encoder: Encodes it block by block.
        scorer: Says what the model hears in a block.
        features: Say how long a frame is.
        waveform: The audio from its beginning; nothing is left of it.
        expected_samples: How long the audio says that it is; more or fewer will do.
    """
    grid = FrameGrid.of(features, scorer.stride)
    block = max(1, round(grid.frames(BLOCK_SECONDS)))
    context = round(grid.frames(CONTEXT_SECONDS))

    def frames(samples: int) -> int:
        return -(-features.num_frames(samples) // scorer.stride)

    scores = np.empty((frames(expected_samples), scorer.columns), np.float32)
    total = start = 0
    while True:
        # Frames [first, last) of each block of the batch, with its context.
        starts = range(start, start + BLOCKS_PER_BATCH * block, block)
        edges = [(max(0, first - context), first + block + context) for first in starts]
        total = frames(waveform.reach(edges[-1][1] * grid.hop))  # or so far, where there is more
        edges = [edge for first, edge in zip(starts, edges, strict=True) if first < total]
        if not edges:
            break
        with torch.inference_mode():
            encoding = encoder.encode([waveform[a * grid.hop : b * grid.hop] for a, b in edges])
            log_probs = scorer.log_probs(encoding).float().cpu().numpy()
        stop = min(total, start + len(edges) * block)
        if stop > len(scores):
            scores = np.concatenate([scores, np.empty_like(scores, shape=(stop, scores.shape[1]))])
        # Without the context: log_probs is (blocks, frames, columns).
        for row, (first, _) in enumerate(edges):
            own = start + row * block
            last = min(stop, own + block)
            scores[own:last] = log_probs[row, own - first : last - first]
        start += BLOCKS_PER_BATCH * block
        waveform.forget(max(0, start - context) * grid.hop)
    return scores[:total], waveform.reach(0)


def words_of(aligned: AlignedTokens, path: TokenPath) -> TextWords:
    """The words of a text that have tokens, where a path has them."""
    owners = np.asarray(aligned.word_indices, np.int64)
    spoken = np.flatnonzero(owners >= 0)
    text_index, first = np.unique(owners[spoken], return_index=True)
    last = np.append(first[1:], len(spoken)) - 1
    return TextWords(
        first=path.first[spoken[first]],
        last=path.last[spoken[last]],
        text_index=text_index,
        first_token=spoken[first],
        last_token=spoken[last] + 1,
    )


@dataclass(frozen=True)
class _Cutter:
    """Cuts at the largest gaps between words and hands out the text accordingly."""

    waveform: SampleWindow
    samples: int
    """Of the whole audio."""
    aligned: AlignedTokens
    path: TokenPath
    words: TextWords
    grid: FrameGrid
    """Of the frames of the path."""

    def segments(self) -> Iterator[AudioSegment]:
        """All segments, in the order of time; they do not overlap."""
        begin = first_sample = 0
        for end in self._ends():
            cut = self.samples
            if end < len(self.words.first):
                gap = self._last_sample(end - 1), self._first_sample(end)
                cut = _quietest(self.waveform, *gap, self.grid.sample_rate)
            yield self._segment(begin, end, first_sample, cut)
            begin, first_sample = end, cut
            self.waveform.forget(cut)

    def _ends(self) -> Iterator[int]:
        """One past the last word of each segment."""
        # Of each word, seconds. (words,)
        return segment_ends(self.grid.centres(self.words.first), self.grid.centres(self.words.last))

    def _segment(self, begin: int, end: int, first_sample: int, last_sample: int) -> AudioSegment:
        """Words [begin, end) and the unspoken ones after each of them, inside two cuts."""
        words, aligned, path = self.words, self.aligned, self.path
        margin = round(MARGIN_SECONDS * self.grid.sample_rate)
        first_sample = max(first_sample, self._first_sample(begin) - margin)
        last_sample = min(last_sample, self._last_sample(end - 1) + margin)
        # Words of the text, unspoken ones too, and their tokens with the silences around them.
        first_word = int(words.text_index[begin]) if begin else 0
        last_word = int(words.text_index[end]) if end < len(words.first) else len(aligned.words)
        tokens = slice(int(words.first_token[begin]) - 1, int(words.last_token[end - 1]) + 1)
        inside = AlignedTokens(
            aligned.ids[tokens],
            [index - first_word if index >= 0 else -1 for index in aligned.word_indices[tokens]],
            aligned.words[first_word:last_word],
        )
        own = TokenPath(path.first[tokens], path.last[tokens], path.log_probs[tokens])
        seconds = (last_sample - first_sample) / self.grid.sample_rate
        clock = self.grid.clock(int(words.last[-1]) + 1, seconds, first_sample=first_sample)
        return AudioSegment(self.waveform, first_sample, last_sample, inside, own, clock)

    def _first_sample(self, word: int) -> int:
        return self._sample(int(self.words.first[word]))

    def _last_sample(self, word: int) -> int:
        return self._sample(int(self.words.last[word]))

    def _sample(self, boundary: int) -> int:
        return min(self.samples, max(0, self.grid.sample(boundary)))


def segment_ends(first: Doubles, last: Doubles) -> Iterator[int]:
    """One past the last word of each segment; they end at the largest gaps between words.

    Args:
        first: When each word begins, seconds.
        last: When it ends.
    """
    count = len(first)
    # Between words i and i + 1: the middle of the gap, and its length. (words - 1,)
    cuts = (last[:-1] + first[1:]) / 2
    gaps = first[1:] - last[:-1]
    begin = 0
    while begin < count:
        # A segment starts where the one before it ended, or a margin before its first word.
        start = max(cuts[begin - 1] if begin else 0.0, first[begin] - MARGIN_SECONDS)
        shortest, longest = start + MIN_SEGMENT_SECONDS, start + MAX_SEGMENT_SECONDS
        near = begin + np.flatnonzero((cuts[begin:] >= shortest) & (cuts[begin:] <= longest))
        if last[-1] <= longest:  # all the rest fits
            begin = count
        elif len(near):  # the largest gap in the right distance
            begin = int(near[gaps[near].argmax()]) + 1
        else:  # no word ends in the right distance: the first one beyond it
            begin = min(count, max(begin, int(np.searchsorted(cuts, longest))) + 1)
        yield begin


def _quietest(waveform: SampleWindow, first: int, last: int, sample_rate: int) -> int:
    """The middle of the quietest moment in samples [first, last), or of the gap if it is short."""
    width = round(QUIET_SECONDS * sample_rate)
    if last - first <= width:
        return (first + last) // 2
    power = waveform[first:last].square().cumsum(0, dtype=torch.float64)
    energy = power[width:] - power[:-width]
    return first + int(energy.argmin()) + 1 + width // 2

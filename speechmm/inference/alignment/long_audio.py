"""Long audio with its whole text: cut between words, at places CTC is sure of.

The alignment head compares every frame with every token of the text. For an hour that is too much
memory, and unlike anything it was trained on. CTC does not see the text, so it scores the hour
window by window; one Viterbi search over all of it places every word to 40 or 80 ms, without drift,
because every frame is in the same search. Between words, where CTC leaves the largest gaps, the
audio is cut, and the alignment head places the words of each stretch to 10 ms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.alignment.ctc_labels import align_ctc_text, ctc_text
from speechmm.inference.alignment.token_path import FrameClock, TokenPath
from speechmm.inference.alignment.viterbi import Floats, Ints
from speechmm.inference.engine.waveform_encoder import WaveformEncoder
from speechmm.text.tokenizer import AlignedTokens, Tokenizer

WINDOW_SECONDS = 30.0
"""Audio the encoder sees at once, without its context."""
CONTEXT_SECONDS = 2.0
"""Audio before and after a window that the encoder sees too; its output there is thrown away."""
WINDOWS_PER_BATCH = 2

SHORTEST_STRETCH_SECONDS = 5.0
LONGEST_STRETCH_SECONDS = 20.0
"""A stretch ends at the largest gap between words that lies this far from its start."""
MARGIN_SECONDS = 2.0
"""Audio kept before the first and after the last word of a stretch; longer silence is left out."""
QUIET_SECONDS = 0.05
"""Within a gap the cut goes to the quietest place, averaged over this long."""


@dataclass(frozen=True)
class Stretch:
    """A part of the audio with the part of the text that is said in it, and its CTC path."""

    first_sample: int
    last_sample: int
    """One past the end."""
    aligned: AlignedTokens
    path: TokenPath
    """In encoder frames of ``clock``."""
    clock: FrameClock


@dataclass(frozen=True)
class _Words:
    """The words with tokens: their times by CTC and their places in the text."""

    first: Ints
    """First encoder frame."""
    last: Ints
    """One past the last encoder frame."""
    text_index: Ints
    """Index in ``AlignedTokens.words``."""
    first_token: Ints
    """Index in ``AlignedTokens.ids``."""
    last_token: Ints
    """One past the last token of the word."""


def anchor_text(
    encoder: WaveformEncoder,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    waveform: Float[Tensor, " samples"],
    aligned: AlignedTokens,
    *,
    name: str,
) -> Iterator[Stretch]:
    """Cuts long audio and its text into stretches of at most about 20 s, in the order of time.

    Args:
        encoder: Gives the CTC scores.
        tokenizer: Says how CTC was taught to write words one after the other.
        features: Say how long a frame is.
        waveform: The whole audio.
        aligned: The whole text.
        name: Of the audio, for messages.

    Raises:
        AlignmentError: The text has more tokens than the audio has encoder frames, or the search
            would take more memory than it may.
    """
    log_probs = window_log_probs(encoder, features, waveform)
    text = ctc_text(tokenizer, aligned)
    path = align_ctc_text(log_probs, text, len(aligned.ids), name=name)
    hop = encoder.model.subsampling * features.hop_length
    words = _words_of(aligned, path)
    yield from _Cutter(waveform, aligned, path, words, hop, features.sample_rate).stretches()


def window_log_probs(
    encoder: WaveformEncoder, features: LogMelConfig, waveform: Float[Tensor, " samples"]
) -> Floats:
    """CTC log-probabilities (encoder frames, vocab) of audio of any length, window by window."""
    hop = encoder.model.subsampling * features.hop_length
    window = max(1, round(WINDOW_SECONDS * features.sample_rate / hop))
    context = round(CONTEXT_SECONDS * features.sample_rate / hop)
    frames = 1 + len(waveform) // features.hop_length
    total = -(-frames // encoder.model.subsampling)
    scores = np.empty((total, encoder.model.vocab_size), np.float32)
    starts = list(range(0, total, window))
    for index in range(0, len(starts), WINDOWS_PER_BATCH):
        batch = starts[index : index + WINDOWS_PER_BATCH]
        edges = [(max(0, start - context), start + window + context) for start in batch]
        with torch.inference_mode():
            encoding = encoder.encode([waveform[a * hop : b * hop] for a, b in edges])
            log_probs = encoder.model.ctc_log_probs(encoding).float().cpu().numpy()
        for row, start in enumerate(batch):
            stop = min(total, start + window)
            before = start - edges[row][0]
            scores[start:stop] = log_probs[row, before : before + stop - start]
    return scores


def _words_of(aligned: AlignedTokens, path: TokenPath) -> _Words:
    owners = np.asarray(aligned.word_indices, np.int64)
    spoken = np.flatnonzero(owners >= 0)
    text_index, first = np.unique(owners[spoken], return_index=True)
    last = np.append(first[1:], len(spoken)) - 1
    return _Words(
        first=path.first[spoken[first]],
        last=path.last[spoken[last]],
        text_index=text_index,
        first_token=spoken[first],
        last_token=spoken[last] + 1,
    )


@dataclass(frozen=True)
class _Cutter:
    """Cuts at the largest gaps between words and hands out the text accordingly."""

    waveform: Float[Tensor, " samples"]
    aligned: AlignedTokens
    path: TokenPath
    words: _Words
    hop: int
    """Samples per encoder frame."""
    sample_rate: int

    def stretches(self) -> Iterator[Stretch]:
        """All stretches, in the order of time; they do not overlap."""
        begin = first_sample = 0
        for end in self._ends():
            cut = len(self.waveform)
            if end < len(self.words.first):
                gap = self._last_sample(end - 1), self._first_sample(end)
                cut = _quietest(self.waveform, *gap, self.sample_rate)
            yield self._stretch(begin, end, first_sample, cut)
            begin, first_sample = end, cut

    def _ends(self) -> Iterator[int]:
        """One past the last word of each stretch."""
        first = self.words.first * self.hop / self.sample_rate
        last = self.words.last * self.hop / self.sample_rate
        count = len(first)
        cuts = (last[:-1] + first[1:]) / 2  # cut i comes after word i
        gaps = first[1:] - last[:-1]
        begin = 0
        while begin < count:
            start = max(cuts[begin - 1] if begin else 0.0, first[begin] - MARGIN_SECONDS)
            shortest, longest = start + SHORTEST_STRETCH_SECONDS, start + LONGEST_STRETCH_SECONDS
            near = begin + np.flatnonzero((cuts[begin:] >= shortest) & (cuts[begin:] <= longest))
            if last[-1] <= longest:
                begin = count
            elif len(near):
                begin = int(near[gaps[near].argmax()]) + 1
            else:  # no word ends in the right distance: the first one beyond it
                begin = min(count, max(begin, int(np.searchsorted(cuts, longest))) + 1)
            yield begin

    def _stretch(self, begin: int, end: int, first_sample: int, last_sample: int) -> Stretch:
        """Words [begin, end) and the unspoken ones after each of them, inside two cuts."""
        words, aligned, path = self.words, self.aligned, self.path
        margin = round(MARGIN_SECONDS * self.sample_rate)
        first_sample = max(first_sample, self._first_sample(begin) - margin)
        last_sample = min(last_sample, self._last_sample(end - 1) + margin)
        first_word = int(words.text_index[begin]) if begin else 0
        last_word = int(words.text_index[end]) if end < len(words.first) else len(aligned.words)
        tokens = slice(int(words.first_token[begin]) - 1, int(words.last_token[end - 1]) + 1)
        inside = AlignedTokens(
            aligned.ids[tokens],
            [index - first_word if index >= 0 else -1 for index in aligned.word_indices[tokens]],
            aligned.words[first_word:last_word],
        )
        own = TokenPath(path.first[tokens], path.last[tokens], path.log_probs[tokens])
        clock = FrameClock(
            hop=self.hop / self.sample_rate,
            frames=int(words.last[-1]) + 1,
            duration=(last_sample - first_sample) / self.sample_rate,
            offset=first_sample / self.hop,
        )
        return Stretch(first_sample, last_sample, inside, own, clock)

    def _first_sample(self, word: int) -> int:
        return self._sample(int(self.words.first[word]))

    def _last_sample(self, word: int) -> int:
        return self._sample(int(self.words.last[word]))

    def _sample(self, boundary: int) -> int:
        """Where an encoder frame begins: half a hop before its centre."""
        return min(len(self.waveform), max(0, boundary * self.hop - self.hop // 2))


def _quietest(waveform: Float[Tensor, " samples"], first: int, last: int, sample_rate: int) -> int:
    """The middle of the quietest moment in samples [first, last), or of the gap if it is short."""
    first, last = max(0, first), min(len(waveform), last)
    width = round(QUIET_SECONDS * sample_rate)
    if last - first <= width:
        return (first + last) // 2
    power = waveform[first:last].square().cumsum(0, dtype=torch.float64)
    energy = power[width:] - power[:-width]
    return first + int(energy.argmin()) + 1 + width // 2

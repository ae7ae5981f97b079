"""Cuts a long recording and its text into parts, between words, for an aligner without a recogniser.

The exact search keeps a number for every frame and state of the text: for an hour that is too much.
So a coarse one goes over the whole recording first, with one state a unit and frames of 20 ms, in
memory that grows with the length alone. It places words well enough to cut between them, where the
pauses are longest, and the exact search then goes over each part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.long_audio import BLOCK_SECONDS, segment_ends, words_of
from speechmm.inference.alignment.placed_text import PlacedText
from speechmm.inference.alignment.token_path import TokenPath, silence_mask
from speechmm.inference.alignment.viterbi import Floats, Ints, monotonic_path, required_frames
from speechmm.inference.engine.sample_window import SampleWindow
from speechmm.inference.engine.sources import Source
from speechmm.models.utterance_mean import frame_levels, loud_level
from speechmm.text.align_units import AlignUnits

Hear = Callable[[Tensor, Tensor], Floats]
"""Scores (frames, 1 + units) of some log-mel, centred as other log-mel is."""

COARSE_FRAMES = 4
"""So many frames (20 ms) are one in the coarse search; fewer where the text is dense."""
ROOM = 2
"""Times the frames that a text needs, which the coarse search should have."""
MARGIN_SECONDS = 0.5
"""Audio kept before the first and after the last word of a part; the coarse search is not exact."""
BLOCK_FRAMES = 6000
"""That are scored at once: 30 s."""
QUIET_FRAMES = 10
"""Within a pause the cut goes to the quietest so many frames."""
_SILENT_NATS = 5.8
"""So far (25 dB) below the loudest block a block is taken to hold no speech."""
ANYTHING_PENALTY = 2.0
"""Nats a frame by which anything said between two words that is not in the text is less likely than the
units it is made of."""


@dataclass(frozen=True)
class RecordingPart:
    """Some frames of a recording, and what is said in them."""

    first: int
    last: int
    """One past the end."""
    text: PlacedText


def block_log_mel(source: Source, config: LogMelConfig) -> Float[Tensor, "frames n_mels"]:
    """Log-mel of a recording of any length, which is read block by block.

    Raises:
        AudioError: It cannot be read.
    """
    waveform = SampleWindow(source.blocks(config.sample_rate))
    hop = config.hop_length
    context = -(-config.n_fft // hop)
    block = round(FrameGrid.of(config).frames(BLOCK_SECONDS))
    parts: list[Tensor] = []
    first = 0
    while True:
        start = max(0, first - context)
        wanted = (first + block + context) * hop
        total = config.num_frames(waveform.reach(wanted))
        if first >= total:
            break
        found = compute_log_mel(waveform[start * hop : wanted], config)
        parts.append(found[first - start : min(total, first + block) - start])
        first += block
        waveform.forget((first - context) * hop)
    return torch.cat(parts)


def cut_recording(
    units: AlignUnits, text: PlacedText, log_mel: Tensor, hear: Hear, config: LogMelConfig
) -> Iterator[RecordingPart]:
    """The parts of a recording, in the order of time; they do not overlap, and leave out long pauses.

    Args:
        units: Of the aligner.
        text: All that is said.
        log_mel: (frames, n_mels) of the recording.
        hear: Scores some of it.
        config: Says how long a frame is.

    Raises:
        AlignmentError: The text has more units than the recording has frames, or the search would
            take more memory than it may.
    """
    path = _coarse_path(text, log_mel, hear)
    words = words_of(text.aligned, path)
    grid = FrameGrid.of(config)
    margin = round(grid.frames(MARGIN_SECONDS))
    begin = start = 0
    for end in segment_ends(grid.centres(words.first), grid.centres(words.last)):
        stop = len(log_mel)
        if end < len(words.first):
            gap = int(words.last[end - 1]), int(words.first[end])
            stop = gap[0] + _quietest(log_mel[slice(*gap)])
        first = max(start, int(words.first[begin]) - margin)
        last = min(stop, int(words.last[end - 1]) + margin)
        first_word = int(words.text_index[begin]) if begin else 0
        whole = end == len(words.first)
        last_word = len(text.said) if whole else int(words.text_index[end])
        yield RecordingPart(first, last, text.part(units, first_word, last_word))
        begin, start = end, stop


def _coarse_path(text: PlacedText, log_mel: Tensor, hear: Hear) -> TokenPath:
    """The frames of each token, to about 20 ms."""
    silent = silence_mask(text.aligned)
    room = len(log_mel) // max(1, ROOM * required_frames(silent))
    pooled = max(1, min(COARSE_FRAMES, room))
    scores = _coarse_scores(log_mel, hear, pooled)
    # What is said between words and is not in the text sounds like some units or other.
    anything = scores[:, 1:].max(axis=1) - ANYTHING_PENALTY
    scores[:, 0] = np.maximum(scores[:, 0], anything)
    classes: Ints = np.asarray(text.aligned.ids, np.int64) + 1
    states = monotonic_path(np.ascontiguousarray(scores), skippable=silent, columns=classes)
    tokens = np.arange(len(classes))
    first, last = (np.searchsorted(states, tokens, side) for side in ("left", "right"))
    first, last = (np.minimum(pooled * one, len(log_mel)) for one in (first, last))
    return TokenPath(first, last, np.zeros(len(classes), np.float32))


def _coarse_scores(log_mel: Tensor, hear: Hear, pooled: int) -> Floats:
    """Scores of frames that are the mean of so many: (coarse frames, 1 + units).

    Each block is centred by itself, as speakers and levels may change; one without speech as the nearest
    one with some is, so that silence stays silent.
    """
    blocks = torch.split(log_mel, BLOCK_FRAMES)
    levels = [
        float(loud_level(frame_levels(block[None]), torch.tensor([len(block)]))) for block in blocks
    ]
    loud = [place for place, level in enumerate(levels) if level >= max(levels) - _SILENT_NATS]
    scores: list[Floats] = []
    for place, block in enumerate(blocks):
        like = blocks[min(loud, key=lambda one: abs(one - place))]
        found = hear(block, like)
        starts = np.arange(0, len(found), pooled)
        counts = np.diff(np.append(starts, len(found)))[:, None]
        scores.append((np.add.reduceat(found, starts) / counts).astype(np.float32))
    return np.concatenate(scores)


def _quietest(log_mel: Tensor) -> int:
    """The middle of the quietest frames of a pause, or of the pause if it is short."""
    if len(log_mel) <= QUIET_FRAMES:
        return len(log_mel) // 2
    summed = frame_levels(log_mel[None])[0].cumsum(0, dtype=torch.float64)
    return int((summed[QUIET_FRAMES:] - summed[:-QUIET_FRAMES]).argmin()) + 1 + QUIET_FRAMES // 2

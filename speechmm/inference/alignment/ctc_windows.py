"""Limits the alignment head to the windows in which CTC finds each token of a text.

The head places tokens to 10 ms, but among similar sounds it can skip or repeat some, above all in
voices it was not trained on; CTC rarely does, but its times are coarse. So a token is penalised outside
its window. The penalty is bounded: a head whose scores differ by more than a few nats overrules it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from speechmm.inference.alignment.ctc_utterances import CtcUtterance
from speechmm.inference.alignment.viterbi import Floats, ctc_states, required_frames
from speechmm.models.forward_sum import forward_backward

OUTER_SHARE = 0.1
"""Share of a token's occupancy that may lie before its window, and after."""
FREE_SECONDS = 0.06
"""A token may lie this far outside its window without a penalty."""
NATS_PER_SECOND = 100.0
"""Penalty of a frame of a token that lies farther away."""
MAX_NATS = 5.0
"""Largest penalty of a frame."""


@dataclass(frozen=True)
class CtcWindows:
    """The feature frames in which CTC finds the tokens of one utterance."""

    first: Floats
    """First frame of the window of each aligned token; -inf where CTC emits no label for it."""
    last: Floats
    """Last frame; inf where CTC emits no label for it."""

    def costs(self, frames: int, hop: float) -> Floats:
        """Nats to take off the score of each token in each frame: (frames, tokens).

        Args:
            frames: Feature frames of the utterance.
            hop: Seconds from frame to frame.
        """
        frame = np.arange(frames, dtype=np.float32)[:, None]
        # How far each frame lies outside each window, in seconds; below 0 inside. (frames, tokens)
        away = np.maximum(self.first[None, :] - frame, frame - self.last[None, :]) * hop
        cost = ((away - FREE_SECONDS) * NATS_PER_SECOND).clip(0.0, MAX_NATS)
        out: Floats = cost.astype(np.float32)
        return out


def find_windows(utterance: CtcUtterance) -> CtcWindows | None:
    """Where all but the outer tenths of the occupancy of each token lie.

    None where the audio has too few encoder frames for the text.
    """
    labels, subsampling = utterance.labels, utterance.subsampling
    columns, skippable = ctc_states(labels.ids)
    if required_frames(skippable) > len(utterance.log_probs):
        return None
    # Posterior of each state in each frame, summed over all paths. (1, enc_frames, states)
    scores = torch.from_numpy(np.ascontiguousarray(utterance.log_probs[:, columns]))[None]
    sizes = torch.tensor([len(utterance.log_probs)]), torch.tensor([len(columns)])
    _, occupancy = forward_backward(scores, *sizes, torch.from_numpy(skippable)[None])
    # Of the labels alone, not the blanks: the share that has passed by each frame. (enc_frames, labels)
    share = occupancy[0, :, 1::2].double().cumsum(0).numpy()
    share /= share[-1:].clip(min=1e-9)
    # From encoder frames to feature frames. (labels,)
    first = (share > OUTER_SHARE).argmax(axis=0) * subsampling
    last = (share >= 1 - OUTER_SHARE).argmax(axis=0) * subsampling
    # A label may cover several aligned tokens ("ing"), or none (a space). (tokens,)
    tokens = utterance.tokens
    windows = CtcWindows(np.full(tokens, -np.inf, np.float32), np.full(tokens, np.inf, np.float32))
    for place, count, begin, end in zip(labels.first, labels.count, first, last, strict=True):
        windows.first[place : place + count] = begin
        windows.last[place : place + count] = end
    return windows

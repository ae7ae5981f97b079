"""Limits the alignment head to the windows in which CTC finds each token of a text.

The head places tokens to 10 ms, but among similar sounds it can skip or repeat some, above all in
voices it was not trained on; CTC rarely does, but its times are coarse. So a token is penalised outside
its window. The penalty is bounded: a head whose scores differ by more than a few nats overrules it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.inference.alignment.ctc_utterances import CtcUtterance
from speechmm.inference.alignment.viterbi import Floats, Ints, ctc_states, required_frames
from speechmm.models.kernels.dispatch import forward_backward

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


def window_costs(
    windows: Sequence[CtcWindows | None],
    scores: Float[Tensor, "batch frames tokens"],
    hop: float,
) -> Float[Tensor, "batch frames tokens"] | None:
    """Nats to take off each of the scores; None where no utterance has windows.

    Args:
        windows: Of each utterance; None costs nothing.
        scores: Of the alignment head.
        hop: Seconds from frame to frame.
    """
    if all(one is None for one in windows):
        return None
    first = np.full((len(windows), scores.shape[2]), -np.inf, np.float32)
    last = np.full((len(windows), scores.shape[2]), np.inf, np.float32)
    for row, one in enumerate(windows):
        if one is not None:
            first[row, : len(one.first)], last[row, : len(one.last)] = one.first, one.last
    frame = torch.arange(scores.shape[1], dtype=torch.float32, device=scores.device)[None, :, None]
    begin, end = (torch.from_numpy(one).to(scores.device)[:, None] for one in (first, last))
    # How far each frame lies outside each window, in seconds; below 0 inside. (batch, frames, tokens)
    away = torch.maximum(begin - frame, frame - end) * hop
    return ((away - FREE_SECONDS) * NATS_PER_SECOND).clamp(0.0, MAX_NATS)


def find_windows(
    utterances: Sequence[CtcUtterance], device: torch.device
) -> list[CtcWindows | None]:
    """Where all but the outer tenths of the occupancy of each token of each utterance lie.

    None where the audio has too few encoder frames for the text.

    Args:
        utterances: A batch.
        device: Where the sums over all paths are computed.
    """
    found: list[CtcWindows | None] = [None] * len(utterances)
    states = [ctc_states(one.labels.ids) for one in utterances]
    fitting = [
        row
        for row, (one, (_, skippable)) in enumerate(zip(utterances, states, strict=True))
        if required_frames(skippable) <= len(one.log_probs)
    ]
    if not fitting:
        return found
    lengths = torch.tensor([len(utterances[row].log_probs) for row in fitting])
    sizes = torch.tensor([len(states[row][0]) for row in fitting])
    # Posterior of each state in each frame, summed over all paths. (batch, enc_frames, states)
    scores = torch.zeros(len(fitting), int(lengths.max()), int(sizes.max()))
    may_skip = torch.zeros(len(fitting), int(sizes.max()), dtype=torch.bool)
    for place, row in enumerate(fitting):
        (columns, skippable), log_probs = states[row], utterances[row].log_probs
        scores[place, : len(log_probs), : len(columns)] = torch.from_numpy(log_probs[:, columns])
        may_skip[place, : len(columns)] = torch.from_numpy(skippable)
    given = (one.to(device) for one in (scores, lengths, sizes, may_skip))
    _, occupancy = forward_backward(*given, compiled=False)
    # Of the labels alone, not the blanks: the share that has passed by each frame.
    exact = torch.float32 if device.type == "mps" else torch.float64
    share = occupancy[:, :, 1::2].to(exact).cumsum(1)
    share /= share[:, -1:].clone().clamp(min=1e-9)
    first = (share > OUTER_SHARE).int().argmax(dim=1).cpu().numpy()  # (batch, labels)
    last = (share >= 1 - OUTER_SHARE).int().argmax(dim=1).cpu().numpy()
    for place, row in enumerate(fitting):
        found[row] = _windows_of(utterances[row], first[place], last[place])
    return found


def _windows_of(utterance: CtcUtterance, first: Ints, last: Ints) -> CtcWindows:
    """The windows of the tokens from those of the labels, in encoder frames.

    A label may cover several aligned tokens ("ing"), or none (a space).
    """
    labels, tokens = utterance.labels, utterance.tokens
    windows = CtcWindows(np.full(tokens, -np.inf, np.float32), np.full(tokens, np.inf, np.float32))
    for index, (place, count) in enumerate(zip(labels.first, labels.count, strict=True)):
        windows.first[place : place + count] = first[index] * utterance.subsampling
        windows.last[place : place + count] = last[index] * utterance.subsampling
    return windows

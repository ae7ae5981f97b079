"""Limits the alignment head to the windows in which CTC finds each token of a text.

The head places tokens to 10 ms, but among similar sounds it can skip or repeat some, above all in
voices it was not trained on; CTC rarely does, but its times are coarse. So a token is penalised outside
its window. The penalty is bounded: a head whose scores differ by more than a few nats overrules it. And it
is as large as CTC's own posteriors speak for the text: a CTC that has learned nothing limits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.inference.alignment.ctc_utterances import CtcUtterance
from speechmm.inference.alignment.viterbi import Doubles, Floats, Ints, ctc_states, required_frames
from speechmm.models.kernels.dispatch import forward_backward

WINDOW_OUTER_SHARE = 0.1
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
    trust: float = 1.0
    """Share of the penalty, 0 to 1 (see :func:`earned_trust`)."""


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
    trust = np.ones(len(windows), np.float32)
    for row, one in enumerate(windows):
        if one is not None:
            first[row, : len(one.first)], last[row, : len(one.last)] = one.first, one.last
            trust[row] = one.trust
    frame = torch.arange(scores.shape[1], dtype=torch.float32, device=scores.device)[None, :, None]
    begin, end = (torch.from_numpy(one).to(scores.device)[:, None] for one in (first, last))
    # How far each frame lies outside each window, in seconds; below 0 inside. (batch, frames, tokens)
    away = torch.maximum(begin - frame, frame - end) * hop
    costs = ((away - FREE_SECONDS) * NATS_PER_SECOND).clamp(0.0, MAX_NATS)
    return costs * torch.from_numpy(trust).to(scores.device)[:, None, None]


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
    scores = scores.to(device)
    given = (one.to(device) for one in (lengths, sizes, may_skip))
    _, occupancy = forward_backward(scores, *given, compiled=False)
    # Of the labels alone, not the blanks: the share that has passed by each frame.
    exact = torch.float32 if device.type == "mps" else torch.float64
    labels = occupancy[:, :, 1::2].to(exact)
    share = labels.cumsum(1)
    totals = share[:, -1:].clone().clamp(min=1e-9)
    share /= totals
    # How probable a label is to CTC, on average over where the paths of the text have it. (batch, labels)
    probable = (labels * scores[:, :, 1::2].exp()).sum(1) / totals[:, 0]
    first = (share > WINDOW_OUTER_SHARE).int().argmax(dim=1).cpu().numpy()  # (batch, labels)
    last = (share >= 1 - WINDOW_OUTER_SHARE).int().argmax(dim=1).cpu().numpy()
    heard = probable.cpu().numpy()
    for place, row in enumerate(fitting):
        found[row] = _windows_of(utterances[row], first[place], last[place], heard[place])
    return found


def earned_trust(probable: Floats | Doubles) -> float:
    """How far the windows of an utterance are to be trusted, 0 to 1 in hundredths, whatever its batch is.

    Args:
        probable: (labels,), how probable each label is to CTC where the paths of the text have it. Near 1
            of a CTC that hears what the text says; about the share of the label in texts, or less, of
            one that has learned only how often each label comes.
    """
    return round(float(np.clip(np.mean(probable), 0.0, 1.0)), 2) if len(probable) else 0.0


def _windows_of(utterance: CtcUtterance, first: Ints, last: Ints, probable: Doubles) -> CtcWindows:
    """The windows of the tokens from those of the labels, in encoder frames.

    A label may cover several aligned tokens ("ing"), or none (a space).
    """
    labels, tokens = utterance.labels, utterance.tokens
    spoken = np.asarray(labels.count, np.int64) > 0
    windows = CtcWindows(
        np.full(tokens, -np.inf, np.float32),
        np.full(tokens, np.inf, np.float32),
        earned_trust(probable[: len(spoken)][spoken]),
    )
    for index, (place, count) in enumerate(zip(labels.first, labels.count, strict=True)):
        windows.first[place : place + count] = first[index] * utterance.subsampling
        windows.last[place : place + count] = last[index] * utterance.subsampling
    return windows

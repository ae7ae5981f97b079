"""Compiles the forward-backward recursions of the forward-sum loss.

Importing this module imports numba and compiles (or loads from numba's cache): ``loading`` does.
Numba takes no keyword arguments: PLR0917 is off.
"""
# ruff: noqa: PLR0917

import numpy as np

from speechmm.models.kernels.compiling import compiled


@compiled("f8(f8,f8)")
def _log_add(a, b):  # type: ignore[no-untyped-def]
    """log(exp(a) + exp(b)) without overflow."""
    top = max(a, b)
    low = min(a, b)
    if low < top - 40.0 or top == -np.inf:
        return top
    return top + np.log1p(np.exp(low - top))


@compiled("void(f4[:,::1], b1[::1], i8, i8, f8[:,::1])")
def _forward(scores, skippable, frames, tokens, forward):  # type: ignore[no-untyped-def]
    """``forward[t, k]``: log of the sum over paths of frames 0 to t that end in token k."""
    # a path begins in the first token, or in the second where the first may be left out
    forward[0, :tokens] = -np.inf
    forward[0, 0] = scores[0, 0]
    if tokens > 1 and skippable[0]:
        forward[0, 1] = scores[0, 1]
    for frame in range(1, frames):
        before = forward[frame - 1]
        forward[frame, 0] = before[0] + scores[frame, 0]
        # stay in a token, come from the one before, or jump over one that may be left out
        for token in range(1, tokens):
            value = _log_add(before[token], before[token - 1])
            if token >= 2 and skippable[token - 1]:
                value = _log_add(value, before[token - 2])
            forward[frame, token] = value + scores[frame, token]


@compiled("f8(f4[:,::1], b1[::1], i8, i8, f8[:,::1], f4[:,::1])")
def _backward(  # type: ignore[no-untyped-def]
    scores, skippable, frames, tokens, forward, occupancy
):
    """Fills ``occupancy`` from the last frame to the first; returns the sum over all paths."""
    # a path ends in the last token, or in the one before where the last may be left out
    total = forward[frames - 1, tokens - 1]
    backward = np.full(tokens, -np.inf)
    backward[tokens - 1] = 0.0
    if tokens > 1 and skippable[tokens - 1]:
        total = _log_add(total, forward[frames - 1, tokens - 2])
        backward[tokens - 2] = 0.0
    if total == -np.inf:
        return total
    following = np.empty(tokens + 2)
    following[tokens:] = -np.inf
    for frame in range(frames - 1, -1, -1):
        # occupancy: forward times backward over the total (Rabiner 1989, equation 27)
        for token in range(tokens):
            share = forward[frame, token] + backward[token] - total
            if share > -40.0:
                occupancy[frame, token] = np.exp(share)
            following[token] = backward[token] + scores[frame, token]
        for token in range(tokens):
            value = _log_add(following[token], following[token + 1])
            if token + 2 < tokens and skippable[token + 1]:
                value = _log_add(value, following[token + 2])
            backward[token] = value
    return total


@compiled("f8(f4[:,::1], b1[::1], i8, i8, f4[:,::1])")
def forward_backward(  # type: ignore[no-untyped-def]
    scores, skippable, frames, tokens, occupancy
):
    """Sums over all monotonic paths of one utterance; -inf where there is none.

    Args:
        scores: (frames, tokens) log-scores, padded.
        skippable: (tokens,), whether a path may leave the token out.
        frames: Valid frames.
        tokens: Valid tokens.
        occupancy: (frames, tokens), zeros on entry: takes the probability that a frame belongs to a
            token.
    """
    if frames == 0 or tokens == 0:
        return -np.inf
    forward = np.empty((frames, tokens))
    _forward(scores, skippable, frames, tokens, forward)
    return _backward(scores, skippable, frames, tokens, forward, occupancy)

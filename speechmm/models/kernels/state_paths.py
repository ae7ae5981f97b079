"""Compiles searches and sums over the states of hidden Markov models whose moves go at most four ahead.

Importing this module imports numba and compiles (or loads from numba's cache): ``loading`` does.
Numba takes no keyword arguments: PLR0917 is off.
"""

import numpy as np

from speechmm.models.kernels.compiling import compiled

MOVES = 5
"""A path stays in its state (0) or moves one to four states ahead."""


@compiled("b1(f4[:,::1], f4[:,::1], f4[::1], f4[::1], i8[::1])")
def best_path(emissions, enter, begin, finish, path):  # type: ignore[no-untyped-def]
    """The likeliest state of each frame (Viterbi); False where there is no path.

    ``emissions[t, j]`` is the score of state j in frame t, ``enter[j, d]`` that of coming to j from
    ``j - d``, ``begin`` and ``finish`` of the first and last state; -inf forbids. Of equal paths
    the one that stays longest is taken.
    """
    frames, states = emissions.shape
    moves = np.zeros((frames, states), np.uint8)
    old = np.empty(states, np.float64)
    new = np.empty(states, np.float64)
    for state in range(states):
        old[state] = begin[state] + emissions[0, state]
    for frame in range(1, frames):
        for state in range(states):
            best = old[state] + enter[state, 0]
            move = 0
            for back in range(1, min(state + 1, 5)):
                value = old[state - back] + enter[state, back]
                if value > best:
                    best = value
                    move = back
            new[state] = best + emissions[frame, state]
            moves[frame, state] = move
        old, new = new, old
    last = 0
    top = -np.inf
    for state in range(states):
        if old[state] + finish[state] > top:
            top = old[state] + finish[state]
            last = state
    if top == -np.inf:
        return False
    for frame in range(frames - 1, -1, -1):
        path[frame] = last
        last -= moves[frame, last]
    return True


@compiled("f8(f8[::1], i8)")
def _log_sum(values, count):  # type: ignore[no-untyped-def]
    """Log of the sum of exponentials of the first ``count`` values."""
    top = -np.inf
    for place in range(count):
        top = max(top, values[place])
    if top == -np.inf:
        return top
    total = 0.0
    for place in range(count):
        total += np.exp(values[place] - top)
    return top + np.log(total)


@compiled("f8(f4[:,::1], f4[:,::1], f4[::1], f4[::1], f4[:,::1])")
def occupancies(emissions, enter, begin, finish, occupancy):  # type: ignore[no-untyped-def]
    """Fills the share of all paths that have each state in each frame; returns the log of their sum.

    Arguments as of :func:`best_path`. Source: Rabiner 1989, equations 19 to 27.
    """
    frames, states = emissions.shape
    forward = np.empty((frames, states), np.float64)
    some = np.empty(5, np.float64)
    for state in range(states):
        forward[0, state] = begin[state] + emissions[0, state]
    for frame in range(1, frames):
        for state in range(states):
            count = min(state + 1, 5)
            for back in range(count):
                some[back] = forward[frame - 1, state - back] + enter[state, back]
            forward[frame, state] = _log_sum(some, count) + emissions[frame, state]
    ends = np.empty(states, np.float64)
    for state in range(states):
        ends[state] = forward[frames - 1, state] + finish[state]
    total = _log_sum(ends, states)
    if total == -np.inf:
        return total
    later = np.empty(states, np.float64)
    now = np.empty(states, np.float64)
    for state in range(states):
        later[state] = finish[state]
    for frame in range(frames - 1, -1, -1):
        for state in range(states):
            occupancy[frame, state] = np.exp(forward[frame, state] + later[state] - total)
        for state in range(states):
            count = min(states - state, 5)
            for ahead in range(count):
                target = state + ahead
                some[ahead] = enter[target, ahead] + emissions[frame, target] + later[target]
            now[state] = _log_sum(some, count)
        later, now = now, later
    return total

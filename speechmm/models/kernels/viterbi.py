"""Searches the best monotonic path through states, in compiled loops (Viterbi).

:mod:`speechmm.inference.alignment.viterbi` is the way in.

Importing this module imports numba and compiles (or loads from numba's cache): ``loading`` does.
Numba takes no keyword arguments: PLR0917 is off.
"""
# ruff: noqa: PLR0917

import numpy as np

from speechmm.models.kernels.compiling import compiled

RENORMALIZE_FRAMES = 32
"""The best score is brought back to 0 this often, so that float32 is exact over hours of frames."""


@compiled("void(f4[:,::1], i8[::1], f4[::1], i8, i8, f4[:,::1], u1[:,::1])")
def advance(  # type: ignore[no-untyped-def]
    emissions, columns, skip_costs, first, last, scores, moves
):
    """Moves the search over frames [first, last) and notes how each state was reached.

    ``scores[0]`` (states + 2, so that state ``s`` is at ``s + 2``) holds the best log-probability
    of a path into each state: of frame ``first - 1`` on entry, of frame ``last - 1`` on return.
    ``scores[1]`` and ``scores[2]`` are scratch. ``moves`` (at least ``last - first`` rows) takes
    the number of states moved up: 0, 1 or 2; ties go to the smaller. State ``s`` emits column
    ``columns[s]``, or column ``s`` when there are no columns. ``skip_costs[s]`` is 0 where ``s``
    may be entered from ``s - 2``, else -inf.
    """
    states = len(skip_costs)
    old = scores[0]
    new = scores[1]
    new[:2] = -np.inf
    for frame in range(first, last):
        # What each state scores in this frame: its own column, or the one it emits. (states,)
        row = emissions[frame]
        if len(columns) > 0:
            gathered = scores[2]
            for state in range(states):
                gathered[state] = row[columns[state]]
            row = gathered
        # The same scores seen from each state: its own, one before, two before. (states,) each
        moved = moves[frame - first]
        stay = old[2:]
        step = old[1:]
        skip = old
        reached = new[2:]
        for state in range(states):
            best = max(stay[state], step[state])
            skipped = skip[state] + skip_costs[state]
            reached[state] = max(best, skipped) + row[state]
            move = np.uint8(1) if step[state] > stay[state] else np.uint8(0)
            moved[state] = np.uint8(2) if skipped > best else move
        # Only differences count: now and then the best score is brought back to 0.
        if frame % RENORMALIZE_FRAMES == RENORMALIZE_FRAMES - 1:
            top = reached[:states].max()
            if top > -np.inf:
                for state in range(states):
                    reached[state] -= top
        old[:2] = -np.inf  # only the first frame may be entered from before the first state
        old, new = new, old
    if (last - first) % 2 == 1:
        scores[0] = scores[1]


@compiled("i8(f4[:,::1], i8[::1], f4[::1], i8, i8, f4[:,::1], f4[:,::1], u1[:,::1], i8[::1])")
def best_path(  # type: ignore[no-untyped-def]
    emissions, columns, skip_costs, frames, block, scores, saved, moves, path
):
    """Writes the best path through one utterance; returns 0, or 1 when every path is impossible.

    ``moves`` has ``block`` rows. When the frames fit one block, one pass does. Otherwise the scores
    before each block are kept in ``saved``, and the moves of one block at a time are found again,
    last block first. ``skip_costs[1]`` says whether the first state may be skipped;
    ``skip_costs[states]``, one past the last state, whether the last one may.
    """
    states = len(skip_costs) - 1
    inner = skip_costs[:states]
    blocks = (frames + block - 1) // block
    # Forward: every path begins in the state before the first. scores is (3, states + 2).
    scores[0, :] = -np.inf
    scores[0, 1] = 0.0
    for index in range(blocks):
        if blocks > 1:
            saved[index] = scores[0]
        first = index * block
        advance(emissions, columns, inner, first, min(frames, first + block), scores, moves)

    # The last state, or the one before it where the last one may be left out.
    state = states - 1
    if states > 1 and scores[0, states] + skip_costs[states] > scores[0, states + 1]:
        state = states - 2
    if not scores[0, state + 2] > -np.inf:
        return 1

    # Back, block by block: the moves of all but the last block are computed again. moves is
    # (block, states), path (frames,).
    for index in range(blocks - 1, -1, -1):
        first = index * block
        last = min(frames, first + block)
        if index < blocks - 1:
            scores[0] = saved[index]
            advance(emissions, columns, inner, first, last, scores, moves)
        for frame in range(last - 1, first - 1, -1):
            path[frame] = state
            state -= moves[frame - first, state]
    return 0


@compiled("i8(f4[:,::1], b1[::1], i8, i8, i8[::1])")
def best_path_in_one_pass(  # type: ignore[no-untyped-def]
    emissions, skippable, frames, states, path
):
    """:func:`best_path` of one utterance of a padded batch, a state per column, in one block."""
    skip_costs = np.full(states + 1, -np.inf, np.float32)
    for state in range(states):
        if skippable[state]:
            skip_costs[state + 1] = 0.0
    return best_path(
        emissions,
        np.empty(0, np.int64),
        skip_costs,
        frames,
        frames,
        np.empty((3, states + 2), np.float32),
        np.empty((0, 0), np.float32),
        np.empty((frames, states), np.uint8),
        path,
    )

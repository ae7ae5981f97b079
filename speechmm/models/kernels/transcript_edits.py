"""The compiled search behind :mod:`speechmm.inference.alignment.transcript_edits`, which is the way in.

Importing this module imports numba and compiles (or loads from numba's cache), so nothing imports
it before the first alignment. Numba takes no keyword arguments: PLR0917 is off.
"""
# ruff: noqa: PLR0917

import numpy as np

from speechmm.models.kernels.compiling import compiled

STAY, NEXT, SKIP, JUNCTION = 0, 1, 2, 3
FREE, DROP = -1, -2
TIE = 1e-6


@compiled("void(f4[::1], i8[::1], i8[::1], f8[::1], f8[::1], f8[::1], u1[::1])")
def _advance(row, columns, first, junction, old, new, moves):  # type: ignore[no-untyped-def]
    """One frame of the states of CTC: from themselves, as ever, or from a junction before them."""
    states, words = len(columns), len(first)
    gap = 0
    for state in range(states):
        best, move = old[state], STAY
        if state >= 1 and old[state - 1] > best:
            best, move = old[state - 1], NEXT
        may_skip = state >= 2 and state % 2 == 1 and columns[state] != columns[state - 2]
        if may_skip and old[state - 2] > best:
            best, move = old[state - 2], SKIP
        while gap < words and first[gap] < state:
            gap += 1
        begins = first[gap] if gap < words else states
        if (state == begins or state == begins - 1) and junction[gap] > best:
            best, move = junction[gap], JUNCTION
        new[state] = best + row[columns[state]]
        moves[state] = move


@compiled("void(f8[::1], f8[::1], i8[::1], i8[::1], f8, f8[::1], i4[::1])")
def _meet(new, free, first, last, drop_cost, junction, sources):  # type: ignore[no-untyped-def]
    """The best way to each junction: a word's end or what follows it, free speech, a dropped word."""
    states, words = len(new), len(first)
    for gap in range(words + 1):
        best, source = free[gap], FREE
        if gap > 0 and junction[gap - 1] - drop_cost > best:
            best, source = junction[gap - 1] - drop_cost, DROP
        begin = last[gap - 1] if gap > 0 else 0
        end = first[gap] if gap < words else states
        for state in range(begin, end):
            if new[state] > best:
                best, source = new[state], state
        junction[gap] = best
        sources[gap] = source


@compiled("void(u1[:,::1], u1[:,::1], i4[:,::1], i8[::1], u1[::1], i8[:,::1])")
def _trace(moves, free_moves, sources, first, dropped, spans):  # type: ignore[no-untyped-def]
    """Walks back from the last junction and notes the changes."""
    words = len(first)
    frame, gap = len(moves), words
    while frame > 0 or gap > 0:
        source = sources[frame, gap]
        if source == DROP:
            gap -= 1
            dropped[gap] = 1
        elif source == FREE:
            spans[gap, 1] = frame
            while free_moves[frame - 1, gap] == STAY:
                frame -= 1
            frame -= 1
            spans[gap, 0] = frame
        else:
            state = source
            frame -= 1
            while moves[frame, state] != JUNCTION:
                state -= moves[frame, state]
                frame -= 1
            gap = 0  # of the word that was entered, or of the blank before it
            while gap < words and first[gap] < state:
                gap += 1


@compiled("f8(f4[:,::1], i8[::1], i8[::1], i8[::1], f8, f8, u1[::1], i8[:,::1])")
def cheapest_changes(  # type: ignore[no-untyped-def]
    scores, columns, first, last, drop_cost, free_cost, dropped, spans
):
    """The best path through a text from which words may be dropped and to which speech may be added.

    Before word ``k``, and at the end, lies junction ``k``. From there a path goes into the word,
    into the blank before it, into free speech (which scores as the best token of each frame and
    comes back to the junction), or straight to the next junction: the word is dropped.

    Args:
        scores: (frames, vocab) log-probabilities.
        columns: (states,) what each state of CTC emits, blanks at even places.
        first: First state of each word.
        last: Last state of each word.
        drop_cost: Of a dropped word, nats.
        free_cost: Of a stretch of free speech, nats.
        dropped: (words,) zeros on entry; takes 1 for a dropped word.
        spans: (words + 1, 2) zeros on entry; takes the frames of free speech before each word.

    Returns:
        What the path scores, costs included.
    """
    frames, states, words = len(scores), len(columns), len(first)
    moves = np.empty((frames, states), np.uint8)
    free_moves = np.empty((frames, words + 1), np.uint8)
    sources = np.empty((frames + 1, words + 1), np.int32)
    old, new = np.full(states, -np.inf), np.full(states, -np.inf)
    free, junction = np.full(words + 1, -np.inf), np.zeros(words + 1)
    for word in range(words):
        junction[word + 1] = junction[word] - drop_cost
        sources[0, word + 1] = DROP
    for frame in range(frames):
        top = scores[frame].max()
        for gap in range(words + 1):
            entered = junction[gap] - free_cost
            late = entered > free[gap] - TIE  # as good: free speech begins as late as it can
            free_moves[frame, gap] = JUNCTION if late else STAY
            free[gap] = max(free[gap], entered) + top
        _advance(scores[frame], columns, first, junction, old, new, moves[frame])
        _meet(new, free, first, last, drop_cost, junction, sources[frame + 1])
        old, new = new, old
    _trace(moves, free_moves, sources, first, dropped, spans)
    return junction[words]

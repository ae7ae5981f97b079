"""Searches the edits of a text that fit its audio best, in compiled loops.

:mod:`speechmm.inference.alignment.transcript_edits` is the way in.

The states are those of CTC: label ``i`` of the text is state ``2 i + 1``, blanks lie between. Before
each word, and after the last, lies a junction; speech that is not in the text is one more state there,
the filler, which scores as the best label of each frame.

Importing this module imports numba and compiles (or loads from numba's cache), so nothing imports
it before the first alignment. Numba takes no keyword arguments: PLR0917 is off.
"""
# ruff: noqa: PLR0917

import numpy as np

from speechmm.models.kernels.compiling import compiled

STAY, NEXT, SKIP, JUNCTION = 0, 1, 2, 3
FILLER, DROP = -1, -2
TIE = 1e-6
"""Nats within which two ways to the filler are as good as each other."""


@compiled("void(f4[::1], i8[::1], i8[::1], f8[::1], f8[::1], f8[::1], u1[::1])")
def _advance(row, columns, first, junction, old, new, moves):  # type: ignore[no-untyped-def]
    """Moves the states of CTC over one frame: from one another, or from a junction before them.

    ``row`` (vocab,) is the frame; ``old``, ``new`` and ``moves`` are (states,), ``junction``
    (words + 1,).
    """
    states, words = len(columns), len(first)
    gap = 0
    for state in range(states):
        # As ever in CTC: stay, go on by one, or skip a blank between two different labels.
        best, move = old[state], STAY
        if state >= 1 and old[state - 1] > best:
            best, move = old[state - 1], NEXT
        may_skip = state >= 2 and state % 2 == 1 and columns[state] != columns[state - 2]
        if may_skip and old[state - 2] > best:
            best, move = old[state - 2], SKIP
        # The first label of a word, and the blank before it, may be entered from its junction.
        while gap < words and first[gap] < state:
            gap += 1
        begins = first[gap] if gap < words else states
        if (state == begins or state == begins - 1) and junction[gap] > best:
            best, move = junction[gap], JUNCTION
        new[state] = best + row[columns[state]]
        moves[state] = move


@compiled("void(f8[::1], f8[::1], i8[::1], i8[::1], f8, f8[::1], i4[::1])")
def _join(new, filler, first, last, drop_penalty, junction, sources):  # type: ignore[no-untyped-def]
    """Finds the best way to each junction: the word before it or its blank, the filler, a drop.

    ``new`` is (states,); ``filler``, ``junction`` and ``sources`` (what was best: a state, ``FILLER``
    or ``DROP``) are (words + 1,).
    """
    states, words = len(new), len(first)
    for gap in range(words + 1):
        best, source = filler[gap], FILLER
        # In the order of words: a drop may follow a drop in the same frame.
        if gap > 0 and junction[gap - 1] - drop_penalty > best:
            best, source = junction[gap - 1] - drop_penalty, DROP
        # The last label of the word before, and the blank between the words.
        begin = last[gap - 1] if gap > 0 else 0
        end = first[gap] if gap < words else states
        for state in range(begin, end):
            if new[state] > best:
                best, source = new[state], state
        junction[gap] = best
        sources[gap] = source


@compiled("void(u1[:,::1], u1[:,::1], i4[:,::1], i8[::1], u1[::1], i8[:,::1])")
def _trace(moves, filler_moves, sources, first, dropped, spans):  # type: ignore[no-untyped-def]
    """Walks back from the last junction, from junction to junction, and notes the edits.

    ``moves`` is (frames, states), ``filler_moves`` (frames, words + 1), ``sources``
    (frames + 1, words + 1): row ``f`` is before frame ``f``.
    """
    words = len(first)
    frame, gap = len(moves), words
    while frame > 0 or gap > 0:
        source = sources[frame, gap]
        if source == DROP:
            gap -= 1
            dropped[gap] = 1
        elif source == FILLER:  # back to the frame in which the filler was entered
            spans[gap, 1] = frame
            while filler_moves[frame - 1, gap] == STAY:
                frame -= 1
            frame -= 1
            spans[gap, 0] = frame
        else:  # back through the states of CTC, to where they were entered from a junction
            state = source
            frame -= 1
            while moves[frame, state] != JUNCTION:
                state -= moves[frame, state]
                frame -= 1
            gap = 0  # of the word that was entered, or of the blank before it
            while gap < words and first[gap] < state:
                gap += 1


@compiled("f8(f4[:,::1], i8[::1], i8[::1], i8[::1], f8, f8, u1[::1], i8[:,::1])")
def best_edits(  # type: ignore[no-untyped-def]
    scores, columns, first, last, drop_penalty, extra_penalty, dropped, spans
):
    """Finds the best path through a text from which words may be dropped and to which speech may be added.

    Before word ``k``, and at the end, lies junction ``k``. From there a path goes into the word,
    into the blank before it, into the filler (which scores as the best label of each frame and
    comes back to the junction), or straight to the next junction: the word is dropped.

    Args:
        scores: (frames, vocab) log-probabilities.
        columns: (states,) what each state of CTC emits, blanks at even places.
        first: (words,) first state of each word.
        last: (words,) last state of each word.
        drop_penalty: Of a dropped word, nats.
        extra_penalty: Of one passage of speech that is not in the text, nats.
        dropped: (words,) zeros on entry; takes 1 for a dropped word.
        spans: (words + 1, 2) zeros on entry; takes the frames of the filler before each word.

    Returns:
        What the path scores, penalties included.
    """
    frames, states, words = len(scores), len(columns), len(first)
    moves = np.empty((frames, states), np.uint8)
    filler_moves = np.empty((frames, words + 1), np.uint8)
    sources = np.empty((frames + 1, words + 1), np.int32)
    # Before the first frame: only junctions can be reached, by dropping all words before them.
    old, new = np.full(states, -np.inf), np.full(states, -np.inf)
    filler, junction = np.full(words + 1, -np.inf), np.zeros(words + 1)
    for word in range(words):
        junction[word + 1] = junction[word] - drop_penalty
        sources[0, word + 1] = DROP
    for frame in range(frames):
        # Fillers first: they are entered from the junctions of the frame before, at a penalty.
        top = scores[frame].max()
        for gap in range(words + 1):
            entered = junction[gap] - extra_penalty
            late = entered > filler[gap] - TIE  # as good: the filler begins as late as it can
            filler_moves[frame, gap] = JUNCTION if late else STAY
            filler[gap] = max(filler[gap], entered) + top
        # Then the states of CTC, from the same junctions; last the junctions after this frame.
        _advance(scores[frame], columns, first, junction, old, new, moves[frame])
        _join(new, filler, first, last, drop_penalty, junction, sources[frame + 1])
        old, new = new, old
    _trace(moves, filler_moves, sources, first, dropped, spans)
    return junction[words]

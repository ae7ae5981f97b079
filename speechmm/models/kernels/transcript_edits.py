"""Searches the edits of a text that fit its audio best, in compiled loops.

:mod:`speechmm.inference.alignment.transcript_edits` is the way in.

The states are those of CTC: label ``i`` of the text is state ``2 i + 1``, blanks lie between. Before
each word, and after the last, lies a junction; speech that is not in the text is one more state there,
the filler, which scores as the best label of each frame.

Importing this module imports numba and compiles (or loads from numba's cache): ``loading`` does.
Numba takes no keyword arguments: PLR0917 is off.
"""
# ruff: noqa: PLR0917

import numpy as np

from speechmm.models.kernels.compiling import compiled

STAY, NEXT, SKIP, JUNCTION = 0, 1, 2, 3
"""How a state was reached; JUNCTION + 1: from a junction by its second best way."""
FILLER, DROP = -1, -2
"""How a junction was reached; DROP - 1: over a dropped word, by the second best way before it."""
TIE = 1e-6
"""Nats within which two ways to the filler are as good as each other."""


@compiled("void(f8[:,::1], i8[:,::1], i4[:,::1], i8, f8, i8, i4)")
def _arrive(junction, labels, sources, gap, score, label, source):  # type: ignore[no-untyped-def]
    """Notes a way to a junction, of which the two best are kept that end in different labels.

    A label must not follow itself without a blank, so the best way in may be no way on. ``junction``,
    ``labels`` (-1 after a blank, a filler or nothing) and ``sources`` are (words + 1, 2), best first.
    """
    if score > junction[gap, 0]:
        if label != labels[gap, 0]:
            junction[gap, 1] = junction[gap, 0]
            labels[gap, 1] = labels[gap, 0]
            sources[gap, 1] = sources[gap, 0]
        junction[gap, 0] = score
        labels[gap, 0] = label
        sources[gap, 0] = source
    elif label != labels[gap, 0] and score > junction[gap, 1]:
        junction[gap, 1] = score
        labels[gap, 1] = label
        sources[gap, 1] = source


@compiled("void(f4[::1], i8[::1], i8[::1], f8[:,::1], i8[:,::1], f8[::1], f8[::1], u1[::1])")
def _advance(row, columns, first, junction, labels, old, new, moves):  # type: ignore[no-untyped-def]
    """Moves the states of CTC over one frame: from one another, or from a junction before them.

    ``row`` (vocab,) is the frame; ``old``, ``new`` and ``moves`` are (states,), ``junction`` and
    ``labels`` (words + 1, 2).
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
        # The first label of a word, and the blank before it, may be entered from its junction; the
        # label not from the same label.
        while gap < words and first[gap] < state:
            gap += 1
        begins = first[gap] if gap < words else states
        if state == begins or state == begins - 1:
            way = 1 if state == begins and labels[gap, 0] == columns[state] else 0
            if junction[gap, way] > best:
                best, move = junction[gap, way], JUNCTION + way
        new[state] = best + row[columns[state]]
        moves[state] = move


@compiled("void(f8[::1], i8[::1], f8[::1], i8[::1], i8[::1], f8, f8[:,::1], i8[:,::1], i4[:,::1])")
def _join(  # type: ignore[no-untyped-def]
    new, columns, filler, first, last, drop_penalty, junction, labels, sources
):
    """Finds the best ways to each junction: the word before it or its blank, the filler, a drop.

    ``new`` and ``columns`` are (states,), ``filler`` (words + 1,); ``junction``, ``labels`` and
    ``sources`` (where from: a state, ``FILLER``, or ``DROP`` less the way to the junction before) are
    (words + 1, 2).
    """
    states, words = len(new), len(first)
    junction[:] = -np.inf
    labels[:] = -1
    for gap in range(words + 1):
        junction[gap, 0] = filler[gap]
        sources[gap, 0] = FILLER
        # In the order of words: a drop may follow a drop in the same frame.
        if gap > 0:
            for way in range(2):
                score = junction[gap - 1, way] - drop_penalty
                _arrive(junction, labels, sources, gap, score, labels[gap - 1, way], DROP - way)
        # The last label of the word before, and the blank between the words.
        begin = last[gap - 1] if gap > 0 else 0
        end = first[gap] if gap < words else states
        for state in range(begin, end):
            label = columns[state] if state % 2 == 1 else -1
            _arrive(junction, labels, sources, gap, new[state], label, state)


@compiled("void(u1[:,::1], u1[:,::1], i4[:,:,::1], i8[::1], u1[::1], i8[:,::1])")
def _trace(moves, filler_moves, sources, first, dropped, spans):  # type: ignore[no-untyped-def]
    """Walks back from the last junction, from junction to junction, and notes the edits.

    ``moves`` is (frames, states), ``filler_moves`` (frames, words + 1), ``sources``
    (frames + 1, words + 1, 2): row ``f`` is before frame ``f``.
    """
    words = len(first)
    frame, gap, way = len(moves), words, 0
    while frame > 0 or gap > 0:
        source = sources[frame, gap, way]
        if source <= DROP:
            gap -= 1
            dropped[gap] = 1
            way = DROP - source
        elif source == FILLER:  # back to the frame in which the filler was entered
            spans[gap, 1] = frame
            while filler_moves[frame - 1, gap] == STAY:
                frame -= 1
            frame -= 1
            spans[gap, 0] = frame
            way = 0
        else:  # back through the states of CTC, to where they were entered from a junction
            state = source
            frame -= 1
            while moves[frame, state] < JUNCTION:
                state -= moves[frame, state]
                frame -= 1
            way = moves[frame, state] - JUNCTION
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
    sources = np.empty((frames + 1, words + 1, 2), np.int32)
    # Before the first frame: only junctions can be reached, by dropping all words before them.
    old, new = np.full(states, -np.inf), np.full(states, -np.inf)
    filler, labels = np.full(words + 1, -np.inf), np.full((words + 1, 2), -1)
    junction = np.full((words + 1, 2), -np.inf)
    junction[0, 0] = 0.0
    for word in range(words):
        junction[word + 1, 0] = junction[word, 0] - drop_penalty
        sources[0, word + 1, 0] = DROP
    for frame in range(frames):
        # Fillers first: they are entered from the junctions of the frame before, at a penalty.
        top = scores[frame].max()
        for gap in range(words + 1):
            entered = junction[gap, 0] - extra_penalty
            late = entered > filler[gap] - TIE  # as good: the filler begins as late as it can
            filler_moves[frame, gap] = JUNCTION if late else STAY
            filler[gap] = max(filler[gap], entered) + top
        # Then the states of CTC, from the same junctions; last the junctions after this frame.
        _advance(scores[frame], columns, first, junction, labels, old, new, moves[frame])
        _join(new, columns, filler, first, last, drop_penalty, junction, labels, sources[frame + 1])
        old, new = new, old
    _trace(moves, filler_moves, sources, first, dropped, spans)
    return junction[words, 0]

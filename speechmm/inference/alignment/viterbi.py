"""Finds the best monotonic path of frames through tokens (Viterbi search).

One search serves the alignment head (a column per token, silences that may be left out) and CTC
(states ``blank t1 blank t2 ... blank`` over a column per vocabulary entry, blanks that may be left
out).

Source: Viterbi 1967; Kim et al. 2020, "Glow-TTS", section 3.2 (monotonic alignment search), here
with states that may be skipped.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.errors import AlignmentError
from speechmm.models.kernels import dispatch, loading

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ONE_PASS_BYTES = 64 * 2**20
"""Up to this many backpointers (one byte each) are all kept; beyond, the search works in blocks."""

MEMORY_LIMIT_BYTES = 2 * 2**30
"""The search refuses to take more memory than this; an hour of speech needs about a tenth of it."""


def monotonic_path(
    log_probs: Floats, *, skippable: Bools | None = None, columns: Ints | None = None
) -> Ints:
    """The state of each frame on the best path from the first state to the last.

    At each frame a path stays in its state or goes to the next one. It may leave out a skippable
    state, also the first or the last one, but not two in a row. Of equal paths the one that moves
    up earliest is taken.

    Args:
        log_probs: Log-probabilities (frames, tokens), or (frames, vocab) with ``columns``; -inf
            forbids.
        skippable: For each state, whether a path may leave it out; default: none may.
        columns: For each state, the column of ``log_probs`` it emits; default: a state per column.

    Returns:
        State indices (frames,), never falling.

    Raises:
        AlignmentError: Fewer frames than states that must be visited, no path with a probability
            above zero, or a search that would take more memory than ``MEMORY_LIMIT_BYTES``.
    """
    frames = len(log_probs)
    states = log_probs.shape[1] if columns is None else len(columns)
    skippable = np.zeros(states, np.bool_) if skippable is None else skippable
    _check_frames(frames, skippable)
    block = _block_frames(frames, states)
    _check_memory(frames, states, block)
    if dispatch.search_in_tensors(frames, frames * states):
        emitted = log_probs if columns is None else log_probs[:, columns]
        whole = np.array([frames]), np.array([states])
        return monotonic_paths(emitted[None], *whole, skippable=skippable[None])[0]
    viterbi_kernels = loading.load("viterbi")
    blocks = math.ceil(frames / block)
    path = np.empty(frames, np.int64)
    failed = viterbi_kernels.best_path(
        np.ascontiguousarray(log_probs, np.float32),
        np.ascontiguousarray([] if columns is None else columns, np.int64),
        _skip_costs(skippable),
        frames,
        block,
        np.empty((3, states + 2), np.float32),
        np.empty((blocks if blocks > 1 else 0, states + 2), np.float32),
        np.empty((block, states), np.uint8),
        path,
    )
    if failed:
        raise _impossible("the utterance")
    return path


def monotonic_paths(
    log_probs: Floats, frame_lengths: Ints, token_lengths: Ints, *, skippable: Bools
) -> list[Ints]:
    """:func:`monotonic_path` for a padded batch.

    Args:
        log_probs: Log-probabilities (batch, frames, tokens).
        frame_lengths: Valid frames of each item.
        token_lengths: Valid tokens of each item.
        skippable: (batch, tokens), whether a path may leave the token out.

    Returns:
        One path (its valid frames,) per item.

    Raises:
        AlignmentError: As :func:`monotonic_path`, naming the item by its place in the batch.
    """
    found = best_paths(
        torch.from_numpy(np.ascontiguousarray(log_probs, np.float32)),
        torch.from_numpy(frame_lengths),
        torch.from_numpy(token_lengths),
        skippable,
    )
    paths: Ints = found.numpy()
    return [path[:frames] for path, frames in zip(paths, frame_lengths.tolist(), strict=True)]


def best_paths(
    scores: Float[Tensor, "batch frames tokens"],
    frame_lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bools,
) -> Int[Tensor, "batch frames"]:
    """:func:`monotonic_paths` where the scores are; the token of each valid frame.

    Raises:
        AlignmentError: As :func:`monotonic_paths`.
    """
    sizes = zip(frame_lengths.tolist(), token_lengths.tolist(), strict=True)
    for item, (frames, tokens) in enumerate(sizes):
        _check_frames(frames, skippable[item, :tokens], f"item {item}")
        _check_memory(frames, tokens, frames)
    given = (frame_lengths, token_lengths, torch.from_numpy(skippable))
    paths, possible = dispatch.best_paths(scores, *(one.to(scores.device) for one in given))
    failed = (~possible).nonzero()
    if len(failed):
        raise _impossible(f"item {int(failed[0])}")
    return paths


def ctc_states(tokens: Sequence[int], *, blank: int = 0) -> tuple[Ints, Bools]:
    """The states of CTC for :func:`monotonic_path`: token ``i`` is state ``2 i + 1``, else blank.

    Returns:
        (columns, skippable): a blank between two equal tokens may not be skipped, all others may.
    """
    columns = np.full(2 * len(tokens) + 1, blank, np.int64)
    columns[1::2] = tokens
    skippable = np.zeros(len(columns), np.bool_)
    skippable[::2] = True
    skippable[2:-1:2] = columns[1:-2:2] != columns[3::2]
    return columns, skippable


def required_frames(skippable: Bools) -> int:
    """The fewest frames a path through these states can have (at least one)."""
    required = 0
    skipped = False
    for may_skip in skippable.tolist():
        skipped = may_skip and not skipped
        required += not skipped
    return max(1, required)


def _bytes(frames: int, states: int, block: int) -> int:
    """The memory the search takes beside its input: moves, saved scores, and the path."""
    blocks = math.ceil(frames / block)
    return block * states + 4 * (states + 2) * (3 + (blocks if blocks > 1 else 0)) + 8 * frames


def _block_frames(frames: int, states: int) -> int:
    """All frames where their backpointers fit; else what takes least memory, at twice the work."""
    if frames * states <= ONE_PASS_BYTES:
        return frames
    return min(frames, math.ceil(2 * math.sqrt(frames)))


def _skip_costs(skippable: Bools) -> Floats:
    """0 where a state may be entered over the one before it, else -inf; one more for the end."""
    costs = np.full((*skippable.shape[:-1], skippable.shape[-1] + 1), -np.inf, np.float32)
    costs[..., 1:][skippable] = 0.0
    return costs


def _check_frames(frames: int, skippable: Bools, where: str = "the utterance") -> None:
    if len(skippable) == 0:
        raise AlignmentError(
            f"{where}: there are no tokens to align; expected at least one. Give it a text."
        )
    required = required_frames(skippable)
    if frames < required:
        raise AlignmentError(
            f"{where}: the text needs at least {required} frames and the audio has {frames}; "
            "expected audio at least as long as its text. Check that the text belongs to the audio."
        )


def _check_memory(frames: int, states: int, block: int) -> None:
    check_memory(frames, states, _bytes(frames, states, block))


def check_memory(frames: int, states: int, needed: int) -> None:
    """Refuses a search that would take too much memory.

    Raises:
        AlignmentError: It needs more bytes than ``MEMORY_LIMIT_BYTES``.
    """
    if needed > MEMORY_LIMIT_BYTES:
        raise AlignmentError(
            f"the utterance: {frames} frames x {states} tokens need {needed / 2**30:.1f} GiB to "
            f"align; expected at most {MEMORY_LIMIT_BYTES / 2**30:.0f} GiB. Cut audio and text in "
            "parts."
        )


def _impossible(where: str) -> AlignmentError:
    return AlignmentError(
        f"{where}: every path has probability zero or is not a number; expected log-probabilities "
        'with at least one possible path. Check the bundle with "speechmm info".'
    )

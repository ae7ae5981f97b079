"""Places edges of tokens between frames, where half of all paths have passed, and says how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.inference.alignment.token_path import TokenEdges, TokenPath, silence_mask
from speechmm.inference.alignment.viterbi import Bools, Doubles, Floats
from speechmm.models.kernels.dispatch import forward_backward
from speechmm.text.tokenizer import AlignedTokens

EDGE_SCALE = 0.5
"""Scale of scores in the sum over paths whose median is an edge: neighbouring frames know much the same,
and so do the two views of the alignment head."""
RANGE_SCALE = 0.15
"""The same for the range of an edge; flatter, as scores know less than they say."""
OUTER_SHARE = 0.04
"""Share of the paths that pass an edge before its range, and after. On the demo's dev set eight of ten
ranges then hold the true edge (docs/experiments/2026-11-27-corpus-aligner.md)."""


def soften(
    paths: Sequence[TokenPath],
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    texts: Sequence[AlignedTokens],
    *,
    ranges: bool = True,
) -> list[TokenPath]:
    """The paths with the edges of their tokens between frames.

    An edge is the median of where all monotonic paths have it: of all places the one from which it
    is least far away in expectation. Where the best path leaves out a silence, the tokens
    beside it touch, half-way between the medians of the end of one and the start of the other.

    Args:
        paths: The best path of each utterance.
        scores: What they were found by: log-probabilities over the tokens of each frame.
        lengths: Valid frames.
        texts: The tokens.
        ranges: False where nobody asks for them, which saves a sum over all paths; they are too narrow.

    Source: Rabiner 1989, equations 27 and 28 (the probability of a state in a frame).
    """
    sizes = torch.tensor([len(text.ids) for text in texts])
    skippable = torch.zeros(len(texts), scores.shape[2], dtype=torch.bool)
    for row, text in enumerate(texts):
        skippable[row, : len(text.ids)] = torch.from_numpy(silence_mask(text))
    given = lengths, sizes.to(scores.device), skippable.to(scores.device)
    scales = (EDGE_SCALE, RANGE_SCALE) if ranges else (EDGE_SCALE,)
    sums = [forward_backward(one * scores.float(), *given, compiled=False)[1] for one in scales]
    narrow, wide = sums[0], sums[-1]
    counts = zip(paths, lengths.tolist(), sizes.tolist(), texts, strict=True)
    softened = []
    for row, (path, frames, tokens, text) in enumerate(counts):
        left_out = silence_mask(text) & (path.first == path.last)
        own = (one[row, :frames, :tokens].cpu().numpy() for one in (narrow, wide))
        edges = find_edges(*own, left_out=left_out)
        softened.append(replace(path, edges=edges))
    return softened


def find_edges(
    occupancy: Floats, wide: Floats, *, left_out: Bools, outer_share: float = OUTER_SHARE
) -> TokenEdges:
    """The edges of the tokens of one utterance.

    Args:
        occupancy: (frames, tokens), the share of the paths that have the token in the frame.
        wide: The same by flatter scores, for the ranges.
        left_out: (tokens,), the silences that the best path leaves out.
        outer_share: Of the paths that pass an edge before its range, and after.
    """
    frames, tokens = occupancy.shape
    middle = _crossing(_staying(occupancy), 0.5)
    flat = _staying(wide)
    earliest = np.minimum(_crossing(flat, 1.0 - outer_share), middle)
    latest = np.maximum(_crossing(flat, outer_share), middle)
    ends = np.stack([earliest, middle, latest], axis=1)  # (tokens, 3)
    ends[-1] = frames
    starts = np.concatenate([np.zeros((1, 3)), ends[:-1]])
    for token in np.flatnonzero(left_out):
        between = (starts[token] + ends[token]) / 2
        meeting = 0.0 if token == 0 else frames if token == tokens - 1 else between
        starts[token] = ends[token] = meeting
        if token > 0:
            ends[token - 1] = meeting
        if token + 1 < tokens:
            starts[token + 1] = meeting
    return TokenEdges(starts, ends)


def _staying(occupancy: Floats) -> Doubles:
    """Share of the paths that have not left each token by each frame: (frames, tokens).

    It falls from frame to frame and rises from token to token.
    """
    summed = np.minimum(np.cumsum(occupancy, axis=1, dtype=np.float64), 1.0)
    out: Doubles = np.minimum.accumulate(summed, axis=0)
    return out


def _crossing(staying: Doubles, share: float) -> Doubles:
    """The boundary at which each column falls below ``share``, by linear interpolation."""
    frames, tokens = staying.shape
    after = np.count_nonzero(staying >= share, axis=0)  # the first frame below it
    inside = (after > 0) & (after < frames)
    column = np.arange(tokens)
    high = staying[np.maximum(after - 1, 0), column]
    low = staying[np.minimum(after, frames - 1), column]
    part = np.divide(high - share, high - low, out=np.ones(tokens), where=inside & (high > low))
    # Values are those of frame centres, half a frame behind the boundary before the frame.
    boundary: Doubles = np.where(inside, after - 0.5 + part, after)
    return boundary

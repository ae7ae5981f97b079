"""Searches the best monotonic path in plain tensors: on any device, and without a compiler."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

RENORMALIZE_FRAMES = 32
"""The best score is brought back to 0 this often, so that float32 is exact over hours of frames."""


def best_paths(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
) -> tuple[Int[Tensor, "batch frames"], Bool[Tensor, " batch"]]:
    """As :func:`dispatch.best_paths`; the same sums in the same order as the compiled search."""
    batch, frames, tokens = scores.shape
    frame, token = (torch.arange(size, device=scores.device) for size in (frames, tokens))
    rows = torch.arange(batch, device=scores.device)
    values = torch.where(token < token_lengths[:, None, None], scores, -torch.inf).transpose(0, 1)
    jumps = scores.new_full((batch, tokens), -torch.inf)
    jumps[:, 1:].masked_fill_(skippable[:, :-1], 0.0)
    # reached[t + 1]: the best score of a path into each token in frame t. Two columns before the first
    # token, so that each has one and two before it; every path begins before the first.
    reached = scores.new_full((frames + 1, batch, tokens + 2), -torch.inf)
    reached[0, :, 1] = 0.0
    for t in range(frames):
        before, new = reached[t], reached[t + 1, :, 2:]
        best = torch.maximum(before[:, 2:], before[:, 1:-1])
        best = torch.maximum(best, before[:, :-2] + jumps)
        torch.add(best, values[t], out=new)
        if t % RENORMALIZE_FRAMES == RENORMALIZE_FRAMES - 1:
            top = new.amax(dim=1, keepdim=True)
            new -= torch.where(top > -torch.inf, top, 0.0)
    # How each token was reached: by 0, 1 or 2 up, the smaller of equals. (frames, batch, tokens)
    stay, step, skip = reached[:-1, :, 2:], reached[:-1, :, 1:-1], reached[:-1, :, :-2] + jumps
    moves = (step > stay).to(torch.uint8).masked_fill_(skip > torch.maximum(stay, step), 2)
    moves.masked_fill_((frame[:, None] >= lengths)[:, :, None], 0)
    # The last token, or the one before it where the last one may be left out.
    final, last = reached[lengths, rows], token_lengths - 1
    ends = final.gather(1, (last + 2).clamp(min=0)[:, None])[:, 0]
    earlier = final.gather(1, (last + 1).clamp(min=0)[:, None])[:, 0]
    may_skip = skippable.gather(1, last.clamp(min=0)[:, None])[:, 0] & (last > 0)
    early = may_skip & (earlier > ends)
    possible = (torch.where(early, earlier, ends) > -torch.inf) & (lengths > 0) & (last >= 0)
    state = torch.where(possible, last - early.to(torch.int64), 0)
    paths = torch.zeros(frames, batch, dtype=torch.int64, device=scores.device)
    for t in range(frames - 1, -1, -1):
        paths[t] = state
        state = (state - moves[t].gather(1, state[:, None])[:, 0]).clamp(min=0)
    return paths.T, possible

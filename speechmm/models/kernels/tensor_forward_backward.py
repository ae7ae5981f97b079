"""Computes the forward-backward sum in plain tensors: on any device, and without a compiler."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def forward_backward(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch frames tokens"]]:
    """Totals (float64) and occupancies (float32) as of :func:`dispatch.forward_backward`.

    Sums are float64; where the device has none (MPS), float32 around the best of each frame.
    """
    frames, tokens = scores.shape[1:]
    precision = torch.float32 if scores.device.type == "mps" else torch.float64
    frame, token = (torch.arange(size, device=scores.device) for size in (frames, tokens))
    inside = (frame < lengths[:, None])[:, :, None] & (token < token_lengths[:, None])[:, None, :]
    values = torch.where(inside, scores.to(precision), -torch.inf)
    # The same utterances from their ends: last frame and last token first. (2 batch, ...)
    back = (lengths[:, None] - 1 - frame).clamp(min=0)[:, :, None].expand_as(values)
    other = (token_lengths[:, None] - 1 - token).clamp(min=0)
    flipped = values.gather(1, back).gather(2, other[:, None, :].expand_as(values))
    flipped = torch.where(inside, flipped, -torch.inf)
    sums, level = _sum_paths(
        torch.cat([values, flipped]), torch.cat([skippable, skippable.gather(1, other)])
    )
    forward, backward = sums.chunk(2)
    backward = backward.gather(1, back).gather(2, other[:, None, :].expand_as(values))
    # A path ends in the last token, or in the one before where the last may be left out. (batch,)
    last = (lengths - 1).clamp(min=0)
    ends = token[None, :] == token_lengths[:, None] - 1
    may_end = skippable & ends
    ends = ends | torch.cat([may_end[:, 1:], torch.zeros_like(may_end[:, :1])], dim=1)
    final = forward[torch.arange(len(scores), device=scores.device), last]
    relative = torch.where(ends, final, -torch.inf).logsumexp(dim=1)
    levels, back_levels = level.chunk(2)
    total = relative + levels.gather(1, last[:, None])[:, 0]
    # Forward times backward over the total (Rabiner 1989, equation 27); both have the frame's score.
    shift = levels + back_levels.gather(1, back[:, :, 0]) - total[:, None]
    share = forward + backward - values + shift[:, :, None]
    occupied = inside & (share > -40.0) & (total > -torch.inf)[:, None, None]
    occupancy = torch.where(occupied, share.clamp(max=0.0).exp(), 0.0)
    return total, occupancy.to(torch.float32)


def _sum_paths(
    scores: Float[Tensor, "batch frames tokens"], skippable: Bool[Tensor, "batch tokens"]
) -> tuple[Float[Tensor, "batch frames tokens"], Float[Tensor, "batch frames"]]:
    """Log-sums of the paths that end in each token at each frame, and the level they count from."""
    batch, frames, tokens = scores.shape
    # Two columns before the first token, so that each token has one and two before it.
    sums = scores.new_full((frames, batch, tokens + 2), -torch.inf)
    levels = scores.new_zeros(batch, frames)
    before = scores.new_full((batch, tokens + 2), -torch.inf)
    before[:, 1] = 0.0  # every path begins before the first token
    jumps = scores.new_full((batch, tokens), -torch.inf)
    jumps[:, 1:].masked_fill_(skippable[:, :-1], 0.0)
    level = scores.new_zeros(batch)
    for frame in range(frames):
        # Stay in a token, come from the one before, or jump over one that may be left out.
        near = torch.logaddexp(before[:, 2:], before[:, 1:-1])
        row = torch.logaddexp(near, before[:, :-2] + jumps) + scores[:, frame]
        top = row.amax(dim=1)
        top = torch.where(top > -torch.inf, top, 0.0)
        level = level + top
        levels[:, frame] = level
        before = sums[frame]
        torch.sub(row, top[:, None], out=before[:, 2:])
    return sums[:, :, 2:].transpose(0, 1), levels

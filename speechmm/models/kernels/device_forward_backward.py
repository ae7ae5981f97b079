"""Computes the forward-backward sum on a GPU, in Triton kernels.

Two programs an utterance: one from its first frame to its last, one from its last to its first.
They loop over the frames inside; a row of sums goes from frame to frame through memory. Sums are
float64, as they grow with the frames; the correction of a log-add (0 to 1.1 nats) is float32.
Running one needs a CUDA device, or Triton's interpreter (``TRITON_INTERPRET=1``).
"""
# ruff: noqa: N803, PLR0917

import torch
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.models.kernels.device_compiling import device_kernel, token_block

IMPOSSIBLE = tl.constexpr(-1e30)
"""Log-score of what cannot be; finite, as differences are taken of it."""
POSSIBLE = tl.constexpr(-1e29)
"""Totals above this are those of a path."""


@device_kernel(sizes=("batch", "frames", "tokens"))
def _sum_paths(  # type: ignore[no-untyped-def]
    scores,
    skippable,
    frame_lengths,
    token_lengths,
    sums,
    totals,
    batch,
    frames,
    tokens,
    BLOCK: tl.constexpr,
):
    """Fills ``sums`` (2, batch, frames, tokens): of the paths up to a frame, and from it on.

    Grid (batch, 2). Both include the frame's own score. ``totals`` (batch,) takes the sums over all
    paths, below ``POSSIBLE`` where there is none.
    """
    item = tl.program_id(0).to(tl.int64)
    backwards = tl.program_id(1)
    length = tl.load(frame_lengths + item).to(tl.int32)
    size = tl.load(token_lengths + item).to(tl.int32)
    scores += item * frames * tokens
    skippable += item * tokens
    sums += (backwards * batch + item) * frames * tokens
    # number counts the tokens as they are passed; token says where each is
    number = tl.arange(0, BLOCK)
    inside = number < size
    token = tl.where(backwards == 1, size - 1 - number, number)
    ahead = tl.where(backwards == 1, -1, 1)
    frame = tl.where(backwards == 1, length - 1, 0)
    # a token may be jumped to where the one before it may be left out
    jump = tl.load(skippable + token - ahead, mask=inside & (number >= 1), other=0) != 0
    steps, jumps = inside & (number >= 1), inside & (number >= 2) & jump
    # a path begins in the first token, or in the second where the first may be left out
    begins = (number == 0) | ((number == 1) & jump)
    live = inside & (length > 0)
    score = tl.load(scores + frame * tokens + token, mask=live, other=IMPOSSIBLE)
    value = tl.maximum(score, IMPOSSIBLE).to(tl.float64)
    value = tl.where(begins & inside, value, IMPOSSIBLE)
    tl.store(sums + frame * tokens + token, value, mask=live)
    for _ in range(1, length):
        row = sums + frame * tokens + token
        frame += ahead
        score = tl.load(scores + frame * tokens + token, mask=inside, other=IMPOSSIBLE)
        tl.debug_barrier()  # the row before is whole
        # stay in a token, come from the one before, or jump over one that may be left out
        step = tl.load(row - ahead, mask=steps, other=IMPOSSIBLE)
        skip = tl.load(row - 2 * ahead, mask=jumps, other=IMPOSSIBLE)
        top = tl.maximum(tl.maximum(value, step), skip)
        more = tl.exp((value - top).to(tl.float32)) + tl.exp((step - top).to(tl.float32))
        more += tl.exp((skip - top).to(tl.float32))
        value = top + tl.log(more).to(tl.float64) + tl.maximum(score, IMPOSSIBLE).to(tl.float64)
        tl.store(sums + frame * tokens + token, value, mask=inside)
    # a path ends in the last token, or in the one before where the last may be left out
    may_skip_last = tl.load(skippable + size - 1, mask=size > 0, other=0) != 0
    ends = (number == size - 1) | ((number == size - 2) & may_skip_last)
    value = tl.where(ends & live, value, IMPOSSIBLE)
    top = tl.max(value, axis=0)
    total = top + tl.log(tl.sum(tl.exp((value - top).to(tl.float32)), axis=0)).to(tl.float64)
    tl.store(totals + item, total, mask=backwards == 0)


@device_kernel(sizes=("frames", "tokens"))
def _occupy(  # type: ignore[no-untyped-def]
    scores,
    frame_lengths,
    token_lengths,
    forward,
    backward,
    totals,
    occupancy,
    frames,
    tokens,
    BLOCK: tl.constexpr,
):
    """Fills ``occupancy`` from the sums up to each frame and from it on; grid (batch, frames)."""
    item = tl.program_id(0).to(tl.int64)
    frame = tl.program_id(1)
    length = tl.load(frame_lengths + item).to(tl.int32)
    size = tl.load(token_lengths + item).to(tl.int32)
    token = tl.arange(0, BLOCK)
    total = tl.load(totals + item + token * 0)
    inside = (token < size) & (frame < length) & (total > POSSIBLE)
    place = (item * frames + frame) * tokens + token
    # forward times backward over the total (Rabiner 1989, equation 27); both have the frame's score
    score = tl.maximum(tl.load(scores + place, mask=inside, other=0.0), IMPOSSIBLE)
    share = tl.load(forward + place, mask=inside, other=0.0) - total
    share += tl.load(backward + place, mask=inside, other=0.0) - score.to(tl.float64)
    share = share.to(tl.float32)
    value = tl.where(inside & (share > -40.0), tl.exp(tl.minimum(share, 0.0)), 0.0)
    tl.store(occupancy + place, value, mask=token < tokens)


def forward_backward(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch frames tokens"]]:
    """Totals (float64) and occupancies (float32) as of :func:`dispatch.forward_backward`."""
    scores = scores.float().contiguous()
    batch, frames, tokens = scores.shape
    skippable, lengths, token_lengths = (
        one.contiguous() for one in (skippable, lengths, token_lengths)
    )
    block, warps = token_block(tokens)
    sums = torch.empty(2, *scores.shape, dtype=torch.float64, device=scores.device)
    totals = torch.empty(batch, dtype=torch.float64, device=scores.device)
    occupancy = torch.empty_like(scores)
    with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]
        _sum_paths[(batch, 2)](
            scores,
            skippable,
            lengths,
            token_lengths,
            sums,
            totals,
            batch,
            frames,
            tokens,
            BLOCK=block,
            num_warps=warps,
            num_stages=1,
        )
        _occupy[(batch, frames)](
            scores,
            lengths,
            token_lengths,
            sums[0],
            sums[1],
            totals,
            occupancy,
            frames,
            tokens,
            BLOCK=block,
            num_warps=min(4, warps),
            num_stages=1,
        )
    return totals.masked_fill(totals < POSSIBLE.value, -torch.inf), occupancy

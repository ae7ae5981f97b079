"""Searches the best monotonic path on a GPU, in a Triton kernel: one program an utterance.

Running it needs a CUDA device, or Triton's interpreter (``TRITON_INTERPRET=1``).
"""
# ruff: noqa: N803, PLR0917

import torch
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.models.kernels.device_compiling import device_kernel, token_block
from speechmm.models.kernels.tensor_viterbi import RENORMALIZE_FRAMES

NEVER = tl.constexpr(float("-inf"))


@device_kernel(sizes=("frames", "tokens"))
def _best_path(  # type: ignore[no-untyped-def]
    scores,
    skippable,
    frame_lengths,
    token_lengths,
    reached,
    moves,
    paths,
    possible,
    frames,
    tokens,
    RENORMALIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Finds one path; grid (batch,).

    ``reached`` (batch, 2, tokens) takes the scores of the paths into each token, of the frame before and
    of this one in turn; ``moves`` (batch, frames, tokens) how many tokens each went up.
    """
    item = tl.program_id(0).to(tl.int64)
    length = tl.load(frame_lengths + item).to(tl.int32)
    size = tl.load(token_lengths + item).to(tl.int32)
    scores += item * frames * tokens
    moves += item * frames * tokens
    skippable += item * tokens
    reached += item * 2 * tokens
    paths += item * frames
    token = tl.arange(0, BLOCK)
    inside = token < size
    jump = tl.load(skippable + token - 1, mask=inside & (token >= 1), other=0) != 0
    # every path begins before the first token
    begins = (token == 0) | ((token == 1) & jump)
    best = tl.load(scores + token, mask=inside & (length > 0), other=NEVER)
    best = tl.where(begins, best, NEVER)
    tl.store(reached + token, best, mask=inside)
    for frame in range(1, length):
        row = reached + (frame - 1) % 2 * tokens + token
        score = tl.load(scores + frame * tokens + token, mask=inside, other=NEVER)
        tl.debug_barrier()  # the row before is whole
        step = tl.load(row - 1, mask=inside & (token >= 1), other=NEVER)
        skip = tl.load(row - 2, mask=inside & (token >= 2) & jump, other=NEVER)
        near = tl.maximum(best, step)
        move = tl.where(skip > near, 2, tl.where(step > best, 1, 0))
        best = tl.maximum(near, skip) + score
        # only differences count: now and then the best score is brought back to 0
        if frame % RENORMALIZE == RENORMALIZE - 1:
            top = tl.max(best, axis=0)
            best -= tl.where(top > NEVER, top, 0.0)
        tl.store(reached + frame % 2 * tokens + token, best, mask=inside)
        tl.store(moves + frame * tokens + token, move.to(tl.uint8), mask=inside)
    tl.debug_barrier()
    # the last token, or the one before it where the last one may be left out
    last = reached + (length - 1) % 2 * tokens + size - 1
    sized = (length > 0) & (size > 0)
    may_skip = tl.load(skippable + size - 1, mask=sized & (size > 1), other=0) != 0
    ends = tl.load(last, mask=sized, other=NEVER)
    earlier = tl.load(last - 1, mask=sized & may_skip, other=NEVER)
    found = sized & (tl.maximum(ends, earlier) > NEVER)
    tl.store(possible + item, found)
    state = size - 1 - (earlier > ends).to(tl.int32)
    for back in range(tl.where(found, length, 0)):
        frame = length - 1 - back
        tl.store(paths + frame, state.to(tl.int64))
        state -= tl.load(moves + frame * tokens + state, mask=frame > 0, other=0).to(tl.int32)


def best_paths(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
) -> tuple[Int[Tensor, "batch frames"], Bool[Tensor, " batch"]]:
    """As :func:`dispatch.best_paths`; the same sums in the same order as the compiled search."""
    scores = scores.float().contiguous()
    batch, frames, tokens = scores.shape
    skippable, lengths, token_lengths = (
        one.contiguous() for one in (skippable, lengths, token_lengths)
    )
    block, warps = token_block(tokens)
    paths = torch.zeros(batch, frames, dtype=torch.int64, device=scores.device)
    possible = torch.zeros(batch, dtype=torch.bool, device=scores.device)
    with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]
        _best_path[(batch,)](
            scores,
            skippable,
            lengths,
            token_lengths,
            scores.new_empty(batch, 2, tokens),
            torch.empty(scores.shape, dtype=torch.uint8, device=scores.device),
            paths,
            possible,
            frames,
            tokens,
            RENORMALIZE=RENORMALIZE_FRAMES,
            BLOCK=block,
            num_warps=warps,
            num_stages=1,
        )
    return paths, possible

"""Chooses the version of each kernel: Triton on CUDA, numba on the CPU, else plain tensors.

Nothing on a device is read back: neither scores nor lengths.
"""

import importlib.util
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.models.kernels import loading, tensor_forward_backward, tensor_viterbi
from speechmm.models.kernels.threads import for_each_utterance

MAX_BLOCK_TOKENS = 4096
"""Utterances with more tokens do not fit one block of a Triton kernel."""
SUM_THREAD_CELLS = 500_000
SEARCH_THREAD_CELLS = 10_000_000
"""Frames times tokens from which on threads pay off."""
TENSOR_FRAMES = 20_000
"""So many frames a process searches in tensors before it loads the compiled search: about as long
as that takes, so that a short run never does. A longer search waits for the compiled one."""
TENSOR_CELLS = 8_000_000
"""A search of more frames times tokens waits for the compiled one: tensors would take too much memory."""


def on_triton(scores: Float[Tensor, "batch frames tokens"]) -> bool:
    """Whether Triton's kernels run where these scores are."""
    return scores.device.type == "cuda" and scores.shape[2] <= MAX_BLOCK_TOKENS and has_triton()


@cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def forward_backward(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
    *,
    compiled: bool = True,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch frames tokens"]]:
    """Log of the sum over all monotonic paths of each utterance, and each frame's share in each token.

    Args:
        scores: Log-scores; -inf forbids.
        lengths: Valid frames.
        token_lengths: Valid tokens.
        skippable: Whether a path may leave the token out, but not two in a row.
        compiled: False: on a CPU plain tensors, as fast for a batch, without loading numba; they
            differ from the compiled sum by float32 rounding.

    Returns:
        Totals (float64; float32 on MPS), -inf where no path exists, and float32 occupancies, which
        are also the gradient of the totals.
    """
    scores = scores.detach()
    if on_triton(scores):
        from speechmm.models.kernels import device_forward_backward

        return device_forward_backward.forward_backward(scores, lengths, token_lengths, skippable)
    if scores.device.type == "cpu" and compiled:
        return _compiled_sum(scores, lengths, token_lengths, skippable)
    return tensor_forward_backward.forward_backward(scores, lengths, token_lengths, skippable)


def best_paths(
    scores: Float[Tensor, "batch frames tokens"],
    lengths: Int[Tensor, " batch"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
) -> tuple[Int[Tensor, "batch frames"], Bool[Tensor, " batch"]]:
    """The best monotonic path of each utterance (Viterbi); every version gives the same.

    Of equal paths the one that moves up earliest is taken.

    Args:
        scores: Log-probabilities; -inf forbids.
        lengths: Valid frames.
        token_lengths: Valid tokens.
        skippable: Whether a path may leave the token out, but not two in a row.

    Returns:
        The token of each valid frame, and whether there is a path at all.
    """
    scores = scores.detach().float()
    if on_triton(scores):
        from speechmm.models.kernels import device_viterbi

        return device_viterbi.best_paths(scores, lengths, token_lengths, skippable)
    if scores.device.type == "cpu" and not search_in_tensors(scores.shape[1], scores.numel()):
        return _compiled_search(scores, lengths, token_lengths, skippable)
    return tensor_viterbi.best_paths(scores, lengths, token_lengths, skippable)


class _Searched:
    """How many frames this process has searched in tensors."""

    frames = 0


def search_in_tensors(frames: int, cells: int) -> bool:
    """Whether a search on a CPU runs in tensors, as the compiled one is not there yet.

    Args:
        frames: Of the search.
        cells: Frames times tokens, of all utterances.
    """
    if loading.loaded("viterbi") or cells > TENSOR_CELLS or frames > TENSOR_FRAMES:
        return False
    _Searched.frames += frames
    if _Searched.frames > TENSOR_FRAMES:
        loading.load_in_background("viterbi")
    return True


def _compiled_sum(
    scores: Tensor, lengths: Tensor, token_lengths: Tensor, skippable: Tensor
) -> tuple[Tensor, Tensor]:
    kernel = loading.load("forward_backward")
    values, may_skip = scores.float().contiguous().numpy(), skippable.contiguous().numpy()
    occupancy = torch.zeros(scores.shape)
    totals = torch.zeros(len(values), dtype=torch.float64)
    out, sums = occupancy.numpy(), totals.numpy()
    frames, tokens = lengths.tolist(), token_lengths.tolist()

    def work(item: int) -> None:
        sums[item] = kernel.forward_backward(
            values[item], may_skip[item], frames[item], tokens[item], out[item]
        )

    sizes = [a * b for a, b in zip(frames, tokens, strict=True)]
    for_each_utterance(work, sizes, worth=SUM_THREAD_CELLS)
    return totals, occupancy


def _compiled_search(
    scores: Tensor, lengths: Tensor, token_lengths: Tensor, skippable: Tensor
) -> tuple[Tensor, Tensor]:
    kernel = loading.load("viterbi")
    values, may_skip = scores.contiguous().numpy(), skippable.contiguous().numpy()
    paths = torch.zeros(scores.shape[:2], dtype=torch.int64)
    possible = torch.zeros(len(values), dtype=torch.bool)
    out, found = paths.numpy(), possible.numpy()
    frames, tokens = lengths.tolist(), token_lengths.tolist()

    def work(item: int) -> None:
        found[item] = not kernel.best_path_in_one_pass(
            values[item], may_skip[item], frames[item], tokens[item], out[item]
        )

    sizes = [a * b for a, b in zip(frames, tokens, strict=True)]
    for_each_utterance(work, sizes, worth=SEARCH_THREAD_CELLS)
    return paths, possible

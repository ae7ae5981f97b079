"""Compiles kernels for a GPU by Triton: one program an utterance, a block of tokens at once."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import triton


def device_kernel(*, sizes: Sequence[str]) -> Callable[[Callable[..., Any]], Any]:
    """``triton.jit``; ``sizes`` are arguments whose values ask for no kernel of their own."""

    def decorate(function: Callable[..., Any]) -> Any:
        function = inspect.unwrap(function)  # Triton wants what the test suite's shape checks wrap
        return triton.jit(function, do_not_specialize=list(sizes))

    return decorate


def token_block(tokens: int) -> tuple[int, int]:
    """Size of the block that holds so many tokens, and the warps that work on it.

    Few sizes (powers of 2 from 64), so that few kernels are compiled.
    """
    block = max(64, 1 << (tokens - 1).bit_length())
    return block, min(16, block // 64)

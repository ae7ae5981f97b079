"""Compiles the inner loops that tensors cannot express: by numba, on import."""

import inspect
from collections.abc import Callable
from typing import Any

import numba


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Numba's eager ``njit``, cached on disk where there is a place for a cache, else in memory."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        kernel: Callable[..., Any]
        function = inspect.unwrap(function)  # numba wants what the test suite's shape checks wrap
        try:
            kernel = numba.njit(signature, cache=True, nogil=True)(function)
        except (RuntimeError, OSError):  # a read-only install without a home, or a full disk
            kernel = numba.njit(signature, nogil=True)(function)
        return kernel

    return decorate

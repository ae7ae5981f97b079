"""Builds modules that have names and shapes, but no values, before weights are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _NoRandomValues(TorchFunctionMode):
    """Leaves out the initialisers of PyTorch.

    On the device "meta" they draw nothing, but ``normal_`` imports PyTorch's compiler for that, which
    takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def without_values() -> Iterator[None]:
    """In its block, modules that are made take no memory and draw no random numbers."""
    with torch.device("meta"), _NoRandomValues():
        yield

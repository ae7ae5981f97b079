"""Brings numbers of the host to the device of a training step without waiting for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constant(values: tuple[int, ...] | tuple[float, ...], device: torch.device) -> Tensor:
    """A vector of these numbers, copied to the device when first asked for and never again.

    Integers give int64, other numbers float32. Nobody may write into it.
    """
    dtype = torch.int64 if all(isinstance(value, int) for value in values) else torch.float32
    return to_device(torch.tensor(values, dtype=dtype), device)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device; a GPU copies it while the host goes on."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)

"""Brings numbers of the host to the device of a training step without waiting for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from speechmm.models.readback import to_device


@lru_cache(maxsize=64)
def constant(values: tuple[int, ...] | tuple[float, ...], device: torch.device) -> Tensor:
    """A vector of these numbers, copied to the device when first asked for and never again.

    Integers give int64, other numbers float32. Nobody may write into it.
    """
    dtype = torch.int64 if all(isinstance(value, int) for value in values) else torch.float32
    return to_device(torch.tensor(values, dtype=dtype), device)

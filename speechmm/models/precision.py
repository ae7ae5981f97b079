"""Keeps sums and losses in float32, whatever precision weights are in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The values in float32 where they are in 16 bits; others as they are."""
    return x.float() if x.dtype.itemsize < 4 else x


def full_precision(device: torch.device) -> torch.autocast:
    """A context in which products of matrices are as precise as their factors, under autocast, too."""
    return torch.autocast(device.type, enabled=False)

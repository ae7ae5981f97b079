"""Sums over the processes of a training, so that a mean is one over the tokens of all of them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import lightning as L
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
_SAID_EVERY = 60.0
"""Seconds between lines that say how far it is."""


def usable_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def most_workers() -> int:
    """Processes that a loader may have: a machine starts some dozens for each core, and no thousands."""
    return max(64, 16 * usable_cores())


def process_count() -> int:
    """Processes that train together; 1 where there is one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def zero_of_all(weights: Iterable[Tensor]) -> Float[Tensor, ""] | float:
    """Zero, as a function of weights: processes that train together wait for the gradient of each.

    Shares of weights are left out, for which nobody waits.
    """
    if process_count() == 1:
        return 0.0
    whole = [weight for weight in weights if not isinstance(weight, DTensor)]
    zero: Tensor = torch.stack([0.0 * weight.float().sum() for weight in whole]).sum()
    return zero


def gather_from_processes(value: Any) -> list[Any]:
    """What each process has, by rank; every process must call it."""
    values = [value]
    if process_count() > 1:
        values *= process_count()
        dist.all_gather_object(values, value)
    return values


def share_of_process(items: Sequence[Item], trainer: L.Trainer, *, what: str) -> Iterator[Item]:
    """The items that fall to this process; a line now and then says how far it is.

    Args:
        items: Of all processes, the same in each.
        trainer: Knows which process this is.
        what: The setting that asks for the work, for the line.
    """
    own = items[trainer.global_rank :: trainer.world_size]
    said = time.monotonic()
    for place, item in enumerate(own):
        yield item
        if time.monotonic() - said > _SAID_EVERY:
            said = time.monotonic()
            logger.info("%s: %d of %d utterances", what, place + 1, len(own))


class _AllSum(torch.autograd.Function):
    """A sum over processes; each value's gradient is the sum of what all processes ask of it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def all_sum(values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The sum of these values over all processes, with gradient; every process must call it.

    On a GPU it is queued like any other operation: nothing waits on the host.
    """
    if process_count() == 1:
        return values
    total: Tensor = _AllSum.apply(values)
    return total


def total_over_processes(count: int, *, like: Tensor) -> int | Tensor:
    """The sum of a number of the host; with several processes on the device of ``like``, unwaited for.

    In float32 then, as Lightning divides sums of weights by the number of processes.
    """
    if process_count() == 1:
        return count
    return all_sum(torch.full((), float(count), device=like.device))


def mean_over_processes(mean: Float[Tensor, ""], count: Shaped[Tensor, ""]) -> Float[Tensor, ""]:
    """A mean, scaled so that its average over processes is the mean over the items of all of them.

    Averaging is what data-parallel training does to gradients; without the scale an item would weigh
    more in a process that has few.

    Args:
        mean: Over the items of this process.
        count: How many these are.
    """
    processes = process_count()
    if processes == 1:
        return mean
    own = count.detach().float()
    return mean * (own * processes / all_sum(own).clamp(min=1))

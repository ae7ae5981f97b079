"""Moves tensors between host and device without either waiting for the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


class Readback:
    """A copy for the host, which arrives while the host goes on.

    A search decides by such copies whether to go on: it learns what was true some steps before, and
    the device never stands still in between. Numbers of a CPU are there at once.
    """

    def __init__(self, values: Tensor) -> None:
        """Begins to copy ``values``, of any shape."""
        self._event: torch.cuda.Event | None = None
        self._host = values
        if values.is_cuda:
            self._host = torch.empty_like(values, device="cpu", pin_memory=True)
            self._host.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    @property
    def ready(self) -> bool:
        """Whether reading needs no waiting."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def tensor(self) -> Tensor:
        """The copy; waits for it where it is not ready."""
        if self._event is not None:
            self._event.synchronize()
        return self._host

    def values(self) -> list[int]:
        """Whole numbers or truths, flat; waits for them where they are not ready."""
        found: list[int] = self.tensor().flatten().long().tolist()
        return found


def upload(numbers: Sequence[int], device: torch.device) -> Int[Tensor, " _"]:
    """Whole numbers as a tensor on a device, copied while the host goes on."""
    return to_device(torch.tensor(numbers, dtype=torch.long), device)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; a GPU copies it while the host goes on."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)

"""Logs what is a mean over an epoch or a set: losses, each over what it is a mean of, and metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from speechmm.training.processes import all_sum
from speechmm.training.tasks import COUNT


def log_losses(
    module: L.LightningModule, stage: str, found: Mapping[str, Tensor], rows: Any
) -> None:
    """Adds the losses of a batch to the means of an epoch.

    Args:
        module: That trains.
        stage: Before the names.
        found: Losses by name, and the counts of those that not every batch has.
        rows: What the others weigh: while training the same in all processes.
    """
    for name, loss in found.items():
        if not name.startswith(COUNT):
            module.log(
                f"{stage}/{name}",
                loss.detach(),
                batch_size=found.get(COUNT + name, rows),
                on_step=False,
                on_epoch=True,
                sync_dist=True,
            )


class SetSums:
    """Numerators and denominators over a dev or test set, of this process."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        self._losses: set[str] = set()

    def add(self, name: str, above: float, below: float) -> None:
        """Adds a batch."""
        known = self._sums[name]
        self._sums[name] = known[0] + above, known[1] + below

    def take_losses(self, found: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        """Adds the losses that not every batch has; returns the others.

        Args:
            found: Losses by name, and counts.
            share: 0 for a batch that another process has, too, else 1.
        """
        others = {name: loss for name, loss in found.items() if not name.startswith(COUNT)}
        for name, count in found.items():
            if name.startswith(COUNT):
                weight = share * float(count)
                loss = name.removeprefix(COUNT)
                self._losses.add(loss)
                self.add(loss, float(others.pop(loss)) * weight, weight)
        return others

    def mean(self, name: str, device: torch.device) -> Tensor | None:
        """Over the set, by all processes; None where nothing of it says anything about that."""
        above, below = all_sum(torch.tensor(self._sums[name], device=device))
        return above / below if below else None

    def losses(self, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """The means of the losses that were taken, as far as the set has them."""
        for name in sorted(self._losses):
            value = self.mean(name, device)
            if value is not None:
                yield name, value

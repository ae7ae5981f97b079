"""Goes on in the middle of an epoch: leaves out the batches that have been trained on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch import Tensor

from speechmm.data.sampling import SamplerAround


class ResumableSampler(SamplerAround):
    """The batches of a sampler whose order is decided by the epoch, without those used already.

    They are drawn and dropped, which costs no reading.
    """

    def __init__(self, sampler: Any):
        """Begins with the first batch.

        Args:
            sampler: Has ``set_epoch``.
        """
        super().__init__(sampler)
        self._started: tuple[int, int] | None = None

    def go_on(self, epoch: int, used: int) -> None:
        """Begins this epoch after so many batches; others begin with their first."""
        self._started = (epoch, used)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        epoch, used = self._started or (self._epoch, 0)
        return islice(iter(self.sampler), used if epoch == self._epoch else 0, None)


def place_in_training(trainer: L.Trainer) -> tuple[int, int]:
    """The epoch that comes next or goes on, and how many batches of it have been trained on.

    Right also before the loops run, from what a checkpoint said.
    """
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    between = epochs.processed == epochs.ready
    return epochs.processed, 0 if between else batches.processed


class RunningMeans:
    """The losses of an epoch so far, from which Lightning makes its ``train/*`` at the epoch's end."""

    def __init__(self, trainer: L.Trainer):
        """Looks at the training epoch of this trainer."""
        self._loop: Any = trainer.fit_loop.epoch_loop
        self._earlier: dict[str, list[Tensor]] = {}

    def state(self) -> dict[str, list[Tensor]]:
        """Sum and weight of each, in this process."""
        return self._earlier | {
            key: [one.value.cpu(), one.cumulated_batch_size.cpu()]
            for key, one in self._loop._results.items()
            if one.is_tensor and one.meta.is_mean_reduction and not one.has_reset
        }

    def load_state(self, state: dict[str, list[Tensor]]) -> None:
        """Remembers them until a batch has logged each."""
        self._earlier = state

    def go_on(self, module: L.LightningModule, *, ends: bool) -> None:
        """Adds what was remembered of what a batch has logged; to be called after each batch.

        Args:
            module: That logs.
            ends: Whether the batch is the last of its epoch: what none has logged is logged then.
        """
        for key, (value, weight) in list(self._earlier.items()):
            hook, _, name = key.partition(".")
            if ends and key not in self._loop._results:
                hook = "on_train_batch_end"
                zero = torch.zeros_like(value, device=module.device)
                module.log(name, zero, batch_size=0, on_step=False, on_epoch=True, sync_dist=True)
            one = self._loop._results.get(f"{hook}.{name}")
            if one is not None:
                one.value = one.value + value.to(one.value.device)
                one.cumulated_batch_size = one.cumulated_batch_size + weight.to(one.value.device)
                del self._earlier[key]

    def leave_out_empty(self) -> None:
        """Forgets losses that no batch of the epoch had: their means would be no numbers."""
        for key, one in list(self._loop._results.items()):
            if one.is_tensor and one.meta.is_mean_reduction and not one.cumulated_batch_size:
                del self._loop._results[key]

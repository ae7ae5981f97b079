"""How far a training gets in the time it is given, so that its learning rate falls by then."""

from __future__ import annotations

import math

import lightning as L
from lightning.pytorch.callbacks import Timer

LOOK_EVERY = 20
"""Optimiser steps from one look at the clock to the next."""


def running_timer(trainer: L.Trainer) -> Timer | None:
    """Lightning's timer of ``trainer.max_time``, where time is limited."""
    timers = [one for one in trainer.callbacks if isinstance(one, Timer)]  # type: ignore[attr-defined]
    return next((one for one in timers if one.time_remaining() is not None), None)


class TimeLimit:
    """The optimiser step at which ``trainer.max_time`` ends a training, judged by its pace so far.

    Training within a budget ends best with a learning rate that has fallen to nothing (Li et al. 2020,
    "Budgeted Training: Rethinking Deep Neural Network Training Under Resource Constraints"), and how many
    steps a budget of time allows shows only on the machine itself.
    """

    def __init__(self, trainer: L.Trainer):
        """Begins to measure the pace: to be made when the training begins or goes on."""
        self._timer = running_timer(trainer)
        self._trainer = trainer
        self._first_step = trainer.global_step
        self._began = self._timer.time_elapsed() if self._timer else 0.0

    def due(self) -> bool:
        """Whether to look at the clock before this step: the same answer in every process."""
        step = self._trainer.global_step
        return self._timer is not None and step > 0 and (step - self._first_step) % LOOK_EVERY == 0

    def last_step(self) -> float:
        """The step at which time will be up, as the first process sees it; infinite without a limit.

        A training that goes on keeps the pace it had until it has one again.
        """
        if self._timer is None:
            return math.inf
        step = self._trainer.global_step
        steps, seconds = step - self._first_step, self._timer.time_elapsed() - self._began
        if not steps:
            steps, seconds = step, self._began
        left = max(0.0, self._timer.time_remaining() or 0.0)
        return self._trainer.strategy.broadcast(step + left * steps / max(seconds, 1e-9))

"""Holds what every training has: optimisation, averaged weights, seeds, loaders."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data import DataLoader

from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.models.bundle_config import TrainingInfo
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.accumulation import Accumulation
from speechmm.training.averaging import AveragedWeights
from speechmm.training.optimization import (
    OptimizationConfig,
    learning_rate_factor,
    make_optimizer,
    rates_of,
    set_rates,
)
from speechmm.training.precision import allow_tf32, clip_gradients, keep_float32
from speechmm.training.processes import gather_from_processes
from speechmm.training.resumable import ResumableSampler, RunningMeans, place_in_training
from speechmm.training.sharding import (
    check_strategy,
    gather,
    release,
    share_out,
    shares_weights,
    whole,
)
from speechmm.training.time_limit import TimeLimit, running_timer

SELECTION = "val/selection"
"""What the best checkpoint is chosen by; the lower the better."""


class TrainingData(L.LightningDataModule):
    """What every training's data tells about itself."""

    def __init__(self, tokenizer: str, *, strict: bool, seed: int):
        super().__init__()
        self.tokenizer_path = tokenizer
        self.seed = seed
        self.skipped = SkipReport(strict=strict)
        self._tokenizer: Tokenizer | None = None
        self._read_utterances = 0

    @property
    def text_tokenizer(self) -> Tokenizer:
        """The tokenizer, read once."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.load(self.tokenizer_path)
        return self._tokenizer

    @property
    def num_utterances(self) -> int:
        """Utterances of all splits read so far that can be used."""
        return self._read_utterances

    def input_files(self) -> list[Path]:
        """The files a training depends on."""
        raise NotImplementedError

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Training batches of one process in the first epoch."""
        raise NotImplementedError

    def _loader(self, name: str, *, shuffle: bool, world_size: int, rank: int) -> DataLoader[Any]:
        """Batches of a split for one process, sorted by length unless they are shuffled.

        Its sampler is a `ResumableSampler`.
        """
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, bucketed; the first batch is the one that the trainer is at.

        Lightning tells a sampler its epoch only after it has taken the first batches from it, and
        counts on in the middle of an epoch without leaving out what comes before.
        """
        loader = self._own_loader("train", shuffle=True)
        if self.trainer:
            assert isinstance(loader.sampler, ResumableSampler)
            loader.sampler.go_on(*place_in_training(self.trainer))
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        """Sorted by length."""
        return self._own_loader("dev", shuffle=False)

    def test_dataloader(self) -> DataLoader[Any]:
        """Sorted by length."""
        return self._own_loader("test", shuffle=False)

    def _own_loader(self, name: str, *, shuffle: bool) -> DataLoader[Any]:
        shares = {"num_replicas": 1, "rank": 0}
        if self.trainer:
            shares = getattr(self.trainer.strategy, "distributed_sampler_kwargs", None) or shares
        return self._loader(
            name, shuffle=shuffle, world_size=shares["num_replicas"], rank=shares["rank"]
        )


class TrainingModule(L.LightningModule):
    """Optimises one network, which is built when the trainer has its data."""

    network: nn.Module | None

    def __init__(self, optimization: OptimizationConfig, seed: int):
        super().__init__()
        self.optimization = optimization
        self.seed = seed
        self.accumulation = Accumulation(1)
        self._unfinished: list[dict[str, Any]] = []  # by process
        self._plain: list[nn.Module] = []  # without weights, where those are shared out
        self._planned = math.inf
        self.last_step = math.inf
        """The optimiser step at which training will end, by epochs, steps or the clock, as far as known."""

    @property
    def data(self) -> TrainingData:
        """The data module of the running trainer."""
        data: Any = getattr(self.trainer, "datamodule", None)
        assert isinstance(data, TrainingData)
        return data

    def save(self, folder: Path, training: TrainingInfo) -> None:
        """Writes the bundle."""
        raise NotImplementedError

    def scores(self, metrics: dict[str, Any]) -> str:
        """The dev scores among logged values, in words."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Keeps in float32 what ``trainer.precision`` must not round."""
        keep_float32(self.trainer)
        allow_tf32(self.optimization.float32_products, self.trainer.strategy.root_device)
        if shares_weights(self.trainer):
            self._share_out()

    def _share_out(self) -> None:
        """Leaves each process a share of the weights; averages have been made of them before."""
        strategy: Any = self.trainer.strategy
        check_strategy(strategy, self.optimization.optimizer)
        self.configure_model()
        assert self.network is not None
        self._plain = [copy.deepcopy(self.network).to("meta")]
        share_out(self.network, self.trainer, root=self)

    def join_shares(self) -> None:
        """Makes the network one of whole weights again; every process must call it.

        It is trained no further.
        """
        if self._plain:
            assert self.network is not None
            weights = whole(self.network.state_dict())
            network = self._plain.pop().to_empty(device="cpu")
            network.load_state_dict(weights)
            self.network = network

    def on_validation_epoch_start(self) -> None:
        """Holds all weights while they are measured, so that no process waits for another's search."""
        gather(self)

    def on_validation_epoch_end(self) -> None:
        """Goes back to shares of them."""
        release(self)

    def on_test_epoch_start(self) -> None:
        """As for validation."""
        TrainingModule.on_validation_epoch_start(self)

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        TrainingModule.on_validation_epoch_end(self)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as the trainer says, under autocast with fused optimisers, too."""
        plugin = self.trainer.precision_plugin
        if gradient_clip_val and isinstance(plugin, MixedPrecision):
            clip_gradients(plugin, optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_callbacks(self) -> list[L.Callback]:
        """Averaged weights, unless switched off."""
        decay = self.optimization.ema_decay
        return [AveragedWeights(decay)] if decay else []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser of the config, and its learning rate step by step."""
        assert self.network is not None
        optimizer = make_optimizer(self.network, self.optimization)
        self._asked_rates = rates_of(optimizer)
        self.last_step = self._planned = self._planned_steps()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(
                step, warmup_steps=self.optimization.warmup_steps, total_steps=self.last_step
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _planned_steps(self) -> float:
        """Optimiser steps of the whole training, as far as epochs or steps limit it."""
        trainer = self.trainer
        most = float(trainer.max_steps) if trainer.max_steps > 0 else math.inf
        epochs = trainer.max_epochs or 0
        if epochs < 1:
            if trainer.max_steps > 0 or running_timer(trainer):
                return most
            raise ConfigError(
                f"trainer: max_epochs is {trainer.max_epochs}, max_steps {trainer.max_steps} and there "
                "is no max_time; expected a limit, for the learning rate to fall by then. "
                "Set trainer.max_epochs or trainer.max_time."
            )
        shares: Any = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
        batches = self.data.batches_per_epoch(world_size=shares.get("num_replicas", 1))
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
        # the last batches of an epoch make a step of their own, however few they are
        return min(most, float(epochs * math.ceil(batches / trainer.accumulate_grad_batches)))

    def on_train_start(self) -> None:
        """Begins to measure the pace, in case time is limited; the rates are those of the settings."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            set_rates(schedule, self._asked_rates)
        self._time_limit = TimeLimit(self.trainer)
        self.accumulation = Accumulation(self.trainer.accumulate_grad_batches)
        self._means = RunningMeans(self.trainer)
        if self.global_rank < len(self._unfinished):
            own = self._unfinished[self.global_rank]
            self._means.load_state(own["means"])
            if own["step"] is not None:
                self.accumulation.load_state(own["step"], self)
        self._unfinished = []

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes gradients of several batches those of the mean over all their tokens."""
        self.accumulation.average(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what an unfinished epoch needs to go on exactly: its losses, gradients of its next step."""
        if not place_in_training(self.trainer)[1]:
            return
        accumulates = self.trainer.fit_loop.epoch_loop._should_accumulate()
        own = {
            "means": self._means.state(),
            "step": self.accumulation.state(self) if accumulates else None,
        }
        checkpoint["unfinished_epoch"] = gather_from_processes(own)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps that until training begins."""
        self._unfinished = checkpoint.get("unfinished_epoch", [])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Takes up the losses of an epoch that goes on."""
        self._means.go_on(self, ends=self.trainer.is_last_batch)
        if self.trainer.should_stop or self.trainer.fit_loop.epoch_loop._is_training_done:
            self._means.leave_out_empty()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds randomness by the place in the run, so that resuming repeats it; looks at the clock."""
        if self._time_limit.due():
            self.last_step = min(self._planned, self._time_limit.last_step())
        place = self.current_epoch * 1_000_003 + batch_idx * 31 + self.global_rank
        torch.manual_seed(self.seed * 7_919 + place)

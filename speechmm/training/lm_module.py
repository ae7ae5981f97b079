"""Trains a language model with Lightning: cross-entropy, and perplexity on the dev texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.errors import ConfigError
from speechmm.models.bundle import save_language_model
from speechmm.models.bundle_config import TrainingInfo
from speechmm.models.language_model import LanguageModel, LanguageModelConfig
from speechmm.models.losses import attention_loss
from speechmm.models.precision import at_least_float32
from speechmm.text.tokenizer import EOS
from speechmm.training.lm_data import TextBatch
from speechmm.training.optimization import OptimizationConfig
from speechmm.training.processes import (
    all_sum,
    mean_over_processes,
    total_over_processes,
)
from speechmm.training.trainable import SELECTION, TrainingModule


class LanguageModule(TrainingModule):
    """Trains a LanguageModel by cross-entropy; measures perplexity."""

    def __init__(
        self,
        network: LanguageModelConfig = LanguageModelConfig(),  # noqa: B008 (frozen)
        label_smoothing: float = 0.0,
        optimization: OptimizationConfig = OptimizationConfig(),  # noqa: B008 (frozen)
        seed: int = 0,
    ):
        """Keeps the settings.

        Args:
            network: Dimensions of the model.
            label_smoothing: Share of probability the targets spread over the whole vocabulary.
            optimization: Learning rate, decay, averaging.
            seed: Start of every random choice of training; the same seed repeats a run.
        """
        super().__init__(optimization, seed)
        if not 0.0 <= label_smoothing < 1.0:
            raise ConfigError(
                f"label_smoothing: found {label_smoothing}; expected 0 to below 1. Correct it."
            )
        self.network_config = network
        self.label_smoothing = label_smoothing
        self.network: LanguageModel | None = None
        self._nats = 0.0
        self._tokens = 0

    @property
    def model(self) -> LanguageModel:
        """The network; it exists once the trainer has set up."""
        assert self.network is not None
        return self.network

    def configure_model(self) -> None:
        """Builds the network once the tokenizer is known."""
        if self.network is None:
            torch.manual_seed(self.seed)
            size = self.data.text_tokenizer.vocab_size
            self.network = LanguageModel(self.network_config, vocab_size=size)

    def _loss(self, batch: TextBatch, label_smoothing: float) -> Float[Tensor, ""]:
        return attention_loss(
            self.model(batch.tokens),
            batch.tokens,
            batch.lengths,
            eos=EOS,
            label_smoothing=label_smoothing,
        )

    def training_step(self, batch: TextBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Cross-entropy of a batch."""
        count = (batch.lengths + 1).sum()
        loss = mean_over_processes(self._loss(batch, self.label_smoothing), count)
        self.log(
            "train/loss",
            loss.detach(),
            batch_size=total_over_processes(len(batch), like=loss),  # type: ignore[arg-type]
            on_step=False,
            on_epoch=True,
            sync_dist=True,
        )
        return self.accumulation.weigh(loss, count, batch_idx)

    def on_validation_epoch_start(self) -> None:
        """Forgets the last validation's sums."""
        super().on_validation_epoch_start()
        self._nats, self._tokens = 0.0, 0

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Adds up the log-probabilities of the dev texts."""
        if not len(batch):  # there are fewer batches than processes
            return
        log_probs = at_least_float32(self.model(batch.tokens)).log_softmax(dim=-1)
        targets = torch.nn.functional.pad(batch.tokens, (0, 1))
        targets.scatter_(1, batch.lengths[:, None], EOS)
        picked = log_probs.gather(2, targets[:, :, None])[:, :, 0]
        place = torch.arange(targets.shape[1], device=targets.device)
        self._nats -= float(picked[place <= batch.lengths[:, None]].sum())
        self._tokens += batch.predictions

    def on_validation_epoch_end(self) -> None:
        """Logs nats per token and perplexity; by the former the best checkpoint is chosen."""
        super().on_validation_epoch_end()
        loss = self._log_perplexity("val")
        self.log(SELECTION, loss, sync_dist=True)

    def _log_perplexity(self, stage: str) -> Tensor:
        """Over the texts of all processes, the ends of texts counted as tokens."""
        sums = torch.tensor([self._nats, float(self._tokens)], device=self.device)
        total = all_sum(sums)
        loss = total[0] / total[1].clamp(min=1)
        self.log(f"{stage}/loss", loss, sync_dist=True)
        self.log(f"{stage}/perplexity", loss.exp(), sync_dist=True)
        return loss

    def test_step(self, batch: TextBatch, batch_idx: int) -> None:
        """As validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_start(self) -> None:
        """Forgets earlier sums."""
        self.on_validation_epoch_start()

    def on_test_epoch_end(self) -> None:
        """Logs the perplexity."""
        super().on_test_epoch_end()
        self._log_perplexity("test")

    def scores(self, metrics: dict[str, Any]) -> str:
        """Perplexity of the dev texts."""
        found = metrics.get("val/perplexity")
        return "" if found is None else f"dev perplexity {float(found):.2f}"

    def save(self, folder: Path, training: TrainingInfo) -> None:
        """Writes the bundle."""
        tokenizer = self.data.text_tokenizer
        save_language_model(folder, self.model, tokenizer, training=training)

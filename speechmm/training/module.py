"""The Lightning module: both tasks trained together on every batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.data.batch import Batch
from speechmm.errors import ConfigError
from speechmm.evaluation.error_rate import count_errors
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.bundle import save_bundle
from speechmm.models.speech_text import OUTPUTS, SpeechTextConfig, SpeechTextModel
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import SIL
from speechmm.training.augmentation.features import (
    SpecAugmentConfig,
    random_gain,
    random_groups,
    random_tempo,
    random_voice,
    spec_augment,
)
from speechmm.training.augmentation.noise_reverb import RoomConfig, random_room
from speechmm.training.augmentation.recombination import RecombinationConfig, WordBank
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.optimization import OptimizationConfig
from speechmm.training.tasks.boundary_errors import boundary_errors_ms
from speechmm.training.tasks.losses import ObjectivesConfig, task_losses
from speechmm.training.trainable import SELECTION, TrainingModule


class JointModule(TrainingModule):
    """Trains a SpeechTextModel on the tasks ``asr`` and ``align``.

    Sizes that live in files (vocabulary, mel bands, feature statistics) come from the data
    module, so the network is built when the trainer has it.
    """

    def __init__(  # noqa: PLR0917 (jsonargparse wants plain arguments)
        self,
        network: SpeechTextConfig = SpeechTextConfig(),  # noqa: B008 (frozen)
        objectives: ObjectivesConfig = ObjectivesConfig(),  # noqa: B008 (frozen)
        augment: SpecAugmentConfig = SpecAugmentConfig(),  # noqa: B008 (frozen)
        room: RoomConfig = RoomConfig(),  # noqa: B008 (frozen)
        recombination: RecombinationConfig = RecombinationConfig(),  # noqa: B008 (frozen)
        optimization: OptimizationConfig = OptimizationConfig(),  # noqa: B008 (frozen)
        seed: int = 0,
    ):
        """Keeps the settings; see each dataclass.

        Args:
            network: Dimensions of the model.
            objectives: Tasks and weights.
            augment: Masks, level and voice changes of training features.
            room: Noise and reverberation of training features.
            recombination: Training utterances made of words of others.
            optimization: Learning rate, decay, averaging.
            seed: Start of every random choice of training; the same seed repeats a run.
        """
        super().__init__(optimization, seed)
        if recombination.share and not objectives.align_weight:
            raise ConfigError(
                f"recombination.share is {recombination.share} and objectives.align_weight 0; "
                "expected the task align to be trained, which finds the words. Set one of them."
            )
        self.network_config = network
        self.objectives = objectives
        self.augment = augment
        self.room = room
        self.recombination = recombination
        self._bank: WordBank | None = None
        self._counts: Tensor | None = None
        self.network: SpeechTextModel | None = None
        self._errors = 0
        self._words = 0
        self._boundary_ms: list[float] = []

    @property
    def model(self) -> SpeechTextModel:
        """The network; it exists once the trainer has set up."""
        if self.network is None:
            raise ConfigError(
                "JointModule: the network is not built yet; expected a trainer to have set up "
                "its data module. Call trainer.fit(module, datamodule=...) first."
            )
        return self.network

    @property
    def data(self) -> SpeechDataModule:
        """The data module of the running trainer."""
        data: Any = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, SpeechDataModule):
            raise ConfigError(
                f"JointModule: the trainer's data module is a {type(data).__name__}; expected "
                "a SpeechDataModule. Call trainer.fit(module, datamodule=SpeechDataModule(...))."
            )
        return data

    def configure_model(self) -> None:
        """Builds the network once tokenizer and features are known."""
        if self.network is not None:
            return
        torch.manual_seed(self.seed)
        network = SpeechTextModel(
            self.network_config,
            vocab_size=self.data.text_tokenizer.vocab_size,
            n_mels=self.data.features.n_mels,
            align_vocab_size=self.data.text_tokenizer.align_vocab_size,
        )
        stats = self.data.cmvn_stats
        if stats is not None:
            network.set_cmvn(stats.mean, stats.std)
        for output in set(OUTPUTS) - self.objectives.outputs:
            for part in network.parts_of(output):
                part.requires_grad_(False)
        self.network = network
        if self.objectives.guidance_weight:
            self._counts = torch.tensor(self.data.text_tokenizer.aligned_counts)
        if self.recombination.share:
            self._bank = WordBank(self.data.text_tokenizer, self.recombination)

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """The weighted sum of all losses of one augmented batch."""
        if self._bank is not None and self.current_epoch >= self.recombination.after_epochs:
            batch = self._bank.recombine(batch)
        recorded = batch
        groups = random_groups(batch.feature_lengths, self.augment)
        if groups is not None:
            tokenizer = self.data.text_tokenizer
            batch = batch.joined(groups, silence=SIL, space=tokenizer.separator)
        if self.objectives.consistency_weight:
            batch = batch.twice()
        features, lengths = random_tempo(batch.features, batch.feature_lengths, self.augment)
        batch = dataclasses.replace(batch, feature_lengths=lengths)
        features = random_voice(features, self.data.features, self.augment)
        features = random_room(features, batch.feature_lengths, self.room)
        features = random_gain(features, self.augment)
        clean = self.model.normalise(features, batch.feature_lengths)
        masked = spec_augment(clean, batch.feature_lengths, self.augment)
        encoding = self.model.encode_normalised(masked, batch.feature_lengths, clean=clean)
        early = 1.0 - self.global_step / max(1, self.objectives.align_warmup_steps)
        losses, occupancy = task_losses(
            self.model,
            self.objectives,
            batch,
            encoding,
            early=max(0.0, early),
            counts=self._counts,
        )
        if self._bank is not None and occupancy is not None and groups is None:
            number = len(recorded)
            self._bank.learn(recorded, occupancy[:number], batch.feature_lengths[:number])
        self._log_losses("train", losses, batch)
        return losses["loss"]

    def _log_losses(self, stage: str, losses: dict[str, Tensor], batch: Batch) -> None:
        values = {f"{stage}/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(values, batch_size=len(batch), on_step=False, on_epoch=True, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Forgets the last validation's counts."""
        self._errors, self._words, self._boundary_ms = 0, 0, []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Losses, greedy word errors, and boundary errors where the truth is known."""
        self._evaluate("val", batch)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        encoding = self.model.encode_speech(batch.features, batch.feature_lengths)
        losses, _ = task_losses(self.model, self.objectives, batch, encoding)
        self._log_losses(stage, losses, batch)
        trained = self.objectives.outputs
        if trained & {"ctc", "decoder"}:
            greedy = SearchOptions(decoder="ctc" if "ctc" in trained else "attention")
            found = search(self.model, encoding, greedy)
            texts = [self.data.text_tokenizer.decode(best.tokens) for best, *_ in found]
            normalizer = self.data.text_tokenizer.normalizer
            counts = count_errors([normalize(text, normalizer) for text in batch.texts], texts)
            self._errors += counts.substitutions + counts.deletions + counts.insertions
            self._words += counts.hits + counts.substitutions + counts.deletions
        if "align" in trained and any(batch.references):
            tokenizer, frame = self.data.text_tokenizer, self.data.features
            self._boundary_ms += boundary_errors_ms(
                self.model, encoding, batch, tokenizer, frame, anchored="ctc" in trained
            )

    def on_validation_epoch_end(self) -> None:
        """Logs the totals; ``val/selection`` is what the best checkpoint is chosen by."""
        self._log_totals("val")

    def _log_totals(self, stage: str) -> None:
        loss = self.trainer.callback_metrics[f"{stage}/loss"]
        selection = 0.01 * loss.to(self.device)
        if self._words:
            wer = self._summed(self._errors) / self._summed(self._words)
            self.log(f"{stage}/wer", wer, sync_dist=True)
            selection = selection + wer
        if self._boundary_ms:
            mean = self._summed(sum(self._boundary_ms)) / self._summed(len(self._boundary_ms))
            self.log(f"{stage}/boundary_ms", mean, sync_dist=True)
        self.log(SELECTION.replace("val", stage), selection, sync_dist=True)

    def _summed(self, value: int | float) -> Tensor:
        local = torch.tensor(float(value), device=self.device)
        total: Tensor = self.trainer.strategy.reduce(local, reduce_op="sum")
        return total

    def on_test_epoch_start(self) -> None:
        """Forgets earlier counts."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation, on the test split."""
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Logs the totals."""
        self._log_totals("test")

    def scores(self, metrics: dict[str, Any]) -> str:
        """WER and boundary error of the dev set."""
        parts = []
        if "val/wer" in metrics:
            parts.append(f"dev WER {100 * float(metrics['val/wer']):.1f} %")
        if "val/boundary_ms" in metrics:
            parts.append(f"boundaries {float(metrics['val/boundary_ms']):.0f} ms")
        return ", ".join(parts)

    def save(self, folder: Path, training: dict[str, Any]) -> None:
        """Writes the bundle."""
        data = self.data
        trained = self.objectives.outputs
        training = {
            **training,
            "outputs": [output for output in OUTPUTS if output in trained],
            "objectives": dataclasses.asdict(self.objectives),
            "utterance_seconds": data.utterance_seconds,
        }
        save_bundle(folder, self.model, data.text_tokenizer, data.features, training=training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the settings as plain values: what is needed to read the weights again."""
        checkpoint["speechmm"] = {
            "network": dataclasses.asdict(self.network_config),
            "objectives": dataclasses.asdict(self.objectives),
            "seed": self.seed,
        }
        if self._bank is not None:
            checkpoint["recombination"] = self._of_every_process(self._bank.state())

    def _of_every_process(self, state: Any) -> list[Any]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return [state]
        states: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, state)
        return states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Fills the bank of words as it was, so that an interrupted training goes on exactly."""
        states = checkpoint.get("recombination")
        if self._bank is not None and states and self.global_rank < len(states):
            state = states[self.global_rank]
            self._bank.load_state(state, self.data.training_features({one["id"] for one in state}))

"""The Lightning module: both tasks trained together on every batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.augment import (
    SpecAugmentConfig,
    random_gain,
    random_groups,
    random_tempo,
    random_voice,
    spec_augment,
)
from speechmm.audio.rooms import RoomConfig, random_room
from speechmm.data.batch import Batch
from speechmm.errors import ConfigError
from speechmm.evaluation.error_rate import count_errors
from speechmm.inference.search import greedy_ctc
from speechmm.models import objectives
from speechmm.models.bundle import save_bundle
from speechmm.models.speech_text import SpeechEncoding, SpeechTextConfig, SpeechTextModel
from speechmm.text.tokenizer import EOS, SIL
from speechmm.training.boundaries import boundary_errors_ms
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.optimization import OptimizationConfig
from speechmm.training.recombination import RecombinationConfig, WordBank
from speechmm.training.trainable import SELECTION, TrainingModule


@dataclass(frozen=True, kw_only=True)
class ObjectivesConfig:
    """Tasks and their weights; a weight of 0 switches a task off."""

    asr_weight: float = 1.0
    """Weight of the task speech -> text."""
    ctc_weight: float = 0.3
    """Share of CTC in the asr task; the rest is the decoder's cross-entropy."""
    intermediate_weight: float = 0.0
    """Share of CTC that is computed half-way up the encoder. Source: Lee and Watanabe 2021,
    "Intermediate Loss Regularization for CTC-based Speech Recognition", equation 13."""
    consistency_weight: float = 0.0
    """Weight of the consistency of CTC between two differently masked views of every utterance,
    relative to CTC; above 0 each step holds every utterance twice. Source: Yao et al. 2025,
    "CR-CTC", equation 5."""
    label_smoothing: float = 0.1
    """Share of probability the decoder's targets spread over the whole vocabulary."""
    align_weight: float = 1.0
    """Weight of the task (speech, text) -> monotonic alignment (nats per frame)."""
    align_warmup_steps: int = 100
    """Optimiser steps in which priors lead the alignments (near the diagonal, silence is soft),
    fading to nothing."""

    def __post_init__(self) -> None:
        shares = (self.ctc_weight, self.label_smoothing, self.intermediate_weight)
        if any(not 0.0 <= share <= 1.0 for share in shares) or self.align_warmup_steps < 0:
            raise ConfigError(
                f"objectives: ctc_weight, label_smoothing, intermediate_weight are {shares}, "
                f"align_warmup_steps {self.align_warmup_steps}; expected 0 to 1 each, and no "
                "negative steps. Correct the config."
            )
        weights = (self.asr_weight, self.align_weight)
        if min(*weights, self.consistency_weight) < 0 or max(weights) == 0:
            raise ConfigError(
                f"objectives: asr_weight, align_weight are {weights}, consistency_weight "
                f"{self.consistency_weight}; expected no negative weight, and asr or align "
                "positive. Correct the config."
            )


class JointModule(TrainingModule):
    """Trains a SpeechTextModel on the tasks ``asr`` and ``align``.

    Sizes that live in files (vocabulary, mel bands, feature statistics) come from the data
    module, so the network is built when the trainer has it.
    """

    def __init__(  # noqa: PLR0917 (jsonargparse wants plain arguments)
        self,
        network: SpeechTextConfig = SpeechTextConfig(),  # noqa: B008 (frozen)
        objectives: ObjectivesConfig = ObjectivesConfig(),
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
        self.network = network
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
        losses, occupancy = self.losses_and_occupancy(batch, encoding)
        if self._bank is not None and occupancy is not None and groups is None:
            number = len(recorded)
            self._bank.learn(recorded, occupancy[:number], batch.feature_lengths[:number])
        self._log_losses("train", losses, batch)
        return losses["loss"]

    def losses(self, batch: Batch, encoding: SpeechEncoding) -> dict[str, Float[Tensor, ""]]:
        """Every loss by name; ``loss`` is their weighted sum."""
        return self.losses_and_occupancy(batch, encoding)[0]

    def losses_and_occupancy(
        self, batch: Batch, encoding: SpeechEncoding
    ) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, "batch frames tokens"] | None]:
        """Every loss by name, and the soft alignment where the task ``align`` is trained."""
        settings, model = self.objectives, self.model
        losses: dict[str, Tensor] = {}
        total, occupancy = encoding.encoded.new_zeros(()), None
        if settings.asr_weight:
            log_probs = model.ctc_log_probs(encoding)
            losses["loss_ctc"] = objectives.ctc_loss(
                log_probs, encoding.enc_lengths, batch.tokens, batch.token_lengths
            )
            losses["loss_attention"] = objectives.attention_loss(
                model.decode(batch.tokens, encoding),
                batch.tokens,
                batch.token_lengths,
                eos=EOS,
                label_smoothing=settings.label_smoothing,
            )
            share = settings.ctc_weight
            ctc = losses["loss_ctc"]
            if settings.intermediate_weight:
                losses["loss_ctc_middle"] = objectives.ctc_loss(
                    model.ctc_log_probs(encoding, middle=True),
                    encoding.enc_lengths,
                    batch.tokens,
                    batch.token_lengths,
                )
                ctc = torch.lerp(ctc, losses["loss_ctc_middle"], settings.intermediate_weight)
            asr = share * ctc + (1 - share) * losses["loss_attention"]
            if settings.consistency_weight and self.training:
                losses["loss_consistency"] = objectives.consistency_loss(
                    log_probs, encoding.enc_lengths, batch.token_lengths
                )
                asr = asr + share * settings.consistency_weight * losses["loss_consistency"]
            total = total + settings.asr_weight * asr
        if settings.align_weight:
            align, occupancy = self._align_losses(batch, encoding)
            losses.update(align)
            total = total + settings.align_weight * sum(align.values())
        losses["loss"] = total
        return losses, occupancy

    def _align_losses(
        self, batch: Batch, encoding: SpeechEncoding
    ) -> tuple[dict[str, Tensor], Float[Tensor, "batch frames tokens"]]:
        """The local view learns from the text, the context view from the local one."""
        settings, head = self.objectives, self.model.alignment_head
        tokens, lengths = batch.align_tokens, batch.feature_lengths
        silent = tokens == SIL
        early = 0.0
        if self.training:
            early = max(0.0, 1.0 - self.global_step / max(1, settings.align_warmup_steps))
        local = head.local_vectors(encoding.features, lengths)
        weight = self.model.config.align_prior
        scores, marginal = objectives.label_scores(
            head.local_log_probs(local), lengths, weight + early * (1.0 - weight)
        )
        log_prior = None
        if early > 0:
            log_prior = early * (
                objectives.silence_log_prior(encoding.features, lengths, silent)
                + objectives.beta_binomial_log_prior(
                    lengths, batch.align_lengths, local.shape[1], tokens.shape[1]
                )
            )
        forward_sum, occupancy = objectives.forward_sum_loss(
            objectives.gather_tokens(scores, tokens),
            lengths,
            batch.align_lengths,
            silent,
            log_prior=log_prior,
        )
        if self.training:
            head.update_prior(marginal)
        context = head.context_log_probs(local, encoding.encoded, encoding.enc_lengths)
        losses = {
            "loss_forward_sum": forward_sum,
            "loss_frames": objectives.frame_loss(context, lengths, tokens, occupancy),
        }
        return losses, occupancy

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
        self._log_losses(stage, self.losses(batch, encoding), batch)
        if self.objectives.asr_weight:
            found = greedy_ctc(self.model.ctc_log_probs(encoding), encoding.enc_lengths)
            texts = [self.data.text_tokenizer.decode(one.tokens) for one in found]
            counts = count_errors(batch.texts, texts)
            self._errors += counts.substitutions + counts.deletions + counts.insertions
            self._words += counts.hits + counts.substitutions + counts.deletions
        if self.objectives.align_weight and any(batch.references):
            tokenizer, frame = self.data.text_tokenizer, self.data.features
            self._boundary_ms += boundary_errors_ms(self.model, encoding, batch, tokenizer, frame)

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
        weights = {"asr": self.objectives.asr_weight, "align": self.objectives.align_weight}
        tasks = [task for task, weight in weights.items() if weight]
        training = {**training, "tasks": tasks, "objectives": str(self.objectives)}
        data = self.data
        training["utterance_seconds"] = data.utterance_seconds
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

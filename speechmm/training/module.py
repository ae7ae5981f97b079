"""Trains a joint model with Lightning: all tasks together on every batch."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.data.batch import Batch
from speechmm.errors import ConfigError
from speechmm.models.adapter import save_adapter
from speechmm.models.bundle import save_bundle
from speechmm.models.bundle_config import TrainingInfo
from speechmm.models.kernels.loading import load_in_background
from speechmm.models.lora import LoraConfig, merged
from speechmm.models.pretrained.description import describe, plain_description
from speechmm.models.speech_text import Mask, SpeechEncoding, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.options import UNIVERSAL
from speechmm.training.augmentation import AugmentationConfig, Augmented, Augmenter
from speechmm.training.augmentation.pipeline import check_recombination, check_unchanged_features
from speechmm.training.compiling import Compile, choose_for, compile_layers, pad_shapes, records
from speechmm.training.cuda_graphs import RecordedPasses, recorded_names
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.epoch_means import SetSums, log_losses
from speechmm.training.freezing import Freezing, check_lora_strategy
from speechmm.training.frozen_frames import FrozenFrames, check_frozen_frames, start_frozen_frames
from speechmm.training.languages import prepare_languages
from speechmm.training.optimization import OptimizationConfig
from speechmm.training.processes import gather_from_processes, total_over_processes
from speechmm.training.renamed_settings import tasks_by_old_name
from speechmm.training.starting_point import StartingPoint, bundle_of, check_encoder
from speechmm.training.starting_weights import start_network
from speechmm.training.tasks import Step, TasksConfig, counts_among, sum_losses
from speechmm.training.tasks.align import OCCUPANCY
from speechmm.training.trainable import SELECTION, TrainingModule
from speechmm.training.universal_start import check_universal, start_guides
from speechmm.training.unpaired import check_texts
from speechmm.training.voice import prepare_voice, voice_config

logger = logging.getLogger(__name__)

ADAPTER = "adapter"
"""Folder beside the bundle that holds what LoRA changed."""
LOSS_SHARE = 0.01
"""Of the loss in what the best checkpoint is chosen by: it decides between equal error rates."""


class JointModule(TrainingModule):
    """Trains a SpeechTextModel on the tasks of its config.

    Sizes that live in files (vocabulary, mel bands, feature statistics) come from the data
    module, so the network is built when the trainer has it.
    """

    def __init__(  # noqa: PLR0917 (jsonargparse wants plain arguments)
        self,
        network: SpeechTextConfig = SpeechTextConfig(),  # noqa: B008 (frozen)
        tasks: TasksConfig = TasksConfig(),  # noqa: B008 (frozen)
        augmentation: AugmentationConfig = AugmentationConfig(),  # noqa: B008 (frozen)
        optimization: OptimizationConfig = OptimizationConfig(),  # noqa: B008 (frozen)
        compile: Compile = "auto",
        seed: int = 0,
        pretrained: str | None = None,
        init_from: str | None = None,
        freeze: Sequence[str] = (),
        thaw_at: Sequence[int] = (),
        lora: LoraConfig = LoraConfig(),  # noqa: B008 (frozen)
        frozen_frames: str | None = None,
        own_layers: bool = False,
        pretrained_decoder: str | None = None,
        trailing_silence: float | None = None,
        **renamed: Any,
    ):
        """Keeps the settings; see each dataclass.

        Args:
            network: Dimensions of the model.
            tasks: What it is trained on, with weights.
            augmentation: Changes to training batches.
            optimization: Learning rate, decay, averaging.
            compile: ``layers`` compiles encoder and decoder layers and the alignment head, ``graphs``
                records whole passes for shapes that come again, ``both`` does both. ``auto`` is one of
                them on a GPU, and ``off`` elsewhere (docs/gpu.md).
            seed: Start of every random choice of training; the same seed repeats a run.
            pretrained: Folder in Hugging Face's layout whose encoder the heads stand on: Whisper, or the
                wav2vec 2.0 family (docs/fine-tuning.md).
            init_from: Bundle whose weights the training starts from; "universal" for the aligner that
                ships, which says where words are, to begin with (docs/alignment.md).
            freeze: Names of weights or parts that do not learn, with * and ?: ``encoder``,
                ``encoder.layers.[01]``.
            thaw_at: Optimiser step from which they do, for each of ``freeze`` or one for all; 0 or
                nothing for never.
            lora: Low-rank updates to weights that the training starts from, which are frozen then.
            frozen_frames: Folder that keeps what the encoder's frozen bottom makes of utterances, or null.
            own_layers: Put an encoder of ``network`` on the frames of the pretrained one.
            pretrained_decoder: Language in which the decoder of a pretrained Whisper goes on, such as de;
                null makes a new decoder.
            trailing_silence: Seconds of silence that the encoder of a pretrained Whisper reads after every
                utterance; null for 5 with its decoder, which needs some, and 0 without.
            renamed: ``objectives``, which ``tasks`` was called before.
        """
        super().__init__(optimization, seed)
        tasks = tasks_by_old_name(renamed, tasks)
        check_recombination(augmentation, aligns="align" in tasks.heads)
        self.start = StartingPoint(
            bundle=bundle_of(init_from),
            folder=pretrained,
            own_layers=own_layers,
            decoder=pretrained_decoder,
            trailing_silence=trailing_silence,
            universal=init_from == UNIVERSAL,
        )
        self.start.check(lora)
        check_universal(self.start, tasks)
        check_frozen_frames(frozen_frames, augmentation)
        self.frozen_frames = frozen_frames
        self._frozen: FrozenFrames | None = None
        self.lora = lora
        self.network_config = network
        self._freeze = (tuple(freeze), tuple(thaw_at))
        self._freezing: Freezing | None = None
        self.tasks = tasks
        self.augmentation = augmentation
        self.network: SpeechTextModel | None = None
        self._augmenter: Augmenter | None = None
        self._compile: Compile = compile
        self._compiled: Compile = "off"
        self._recorded: RecordedPasses | None = None
        self._sums = SetSums()

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
        data = self.data
        check_texts(data.text_paths, self.tasks)
        torch.manual_seed(self.seed)
        encoder = self.start.encoder(self.network_config)
        if encoder is not None:
            check_encoder(describe(encoder), self.network_config, data.features)
        network = SpeechTextModel(
            self.network_config,
            vocab_size=data.text_tokenizer.vocab_size,
            n_mels=data.features.n_mels,
            align_vocab_size=data.text_tokenizer.align_vocab_size,
            heads=self.tasks.heads,
            tags=self.tasks.tags_in(prepare_languages(self.tasks, data)),
            encoder=encoder,
            voice=voice_config(self.tasks, data),
        )
        for task in self.tasks.active:
            for name, head in task.make_heads(network).items():
                network.heads[name] = head
        if data.cmvn_stats is not None:
            network.set_cmvn(data.cmvn_stats.mean, data.cmvn_stats.std)
        prepare_voice(network, data, self.tasks.tts)
        self._start(network)
        self.network = network
        self._augmenter = Augmenter(
            self.augmentation, data.features, views=self.tasks.views, seed=self.seed
        )
        data.planner = self._augmenter.planner

    def _start(self, network: SpeechTextModel) -> None:
        """Takes weights, freezes what is to stay, and says both in a few lines."""
        where = self.start, self._freeze, self.lora
        self._freezing, said = start_network(network, self.data, *where)
        if self.trainer.is_global_zero and self.trainer.training:
            for line in said:
                logger.info("%s", line)
        if network.reads_waveforms:
            check_unchanged_features(self.augmentation)
            self.data.keep_samples = True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Freezes and thaws, before all else."""
        super().on_train_batch_start(batch, batch_idx)
        if self._freezing is not None and self.trainer.world_size == 1:
            self._freezing.begin_step(self.global_step)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Throws away the gradients of what is frozen."""
        super().on_before_optimizer_step(optimizer)
        if self._freezing is not None:
            self._freezing.drop_gradients(self.global_step)

    def setup(self, stage: str) -> None:
        """Decides what is compiled, which batches are padded for."""
        super().setup(stage)
        check_lora_strategy(self.lora, self.trainer)
        if stage == "fit":
            self._compiled = choose_for(self.trainer, self._compile, self._planned_steps)
            self.data.compiled = self._compiled != "off"

    def on_fit_start(self) -> None:
        """Computes frozen frames and word times, compiles layers: the weights are where they will be."""
        where = self.data, self.trainer
        self._frozen = start_frozen_frames(self.frozen_frames, self.model, self.tasks, *where)
        start_guides(self.start, *where)
        compile_layers(self.model, self._compiled)
        if records(self._compiled):
            self._recorded = RecordedPasses(self.model)
        if "align" in self.tasks.heads and self.device.type == "cpu":
            load_in_background("forward_backward")  # while the first batch is made

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """The weighted sum of all losses of one augmented batch."""
        assert self._augmenter is not None
        augmented = self._augmenter(batch, self.current_epoch, self.model.normalise)
        augmented = pad_shapes(augmented, self._compiled, self.model.subsampling)
        batch = augmented.batch
        losses = self._losses(augmented)
        self._augmenter.learn(augmented, losses.pop(OCCUPANCY, None))
        rows = total_over_processes(len(batch), like=losses["loss"])
        stage = f"train/{batch.source}" if batch.source else "train"
        log_losses(self, stage, losses, rows)
        return self.accumulation.weigh(losses["loss"], batch.token_lengths.sum(), batch_idx)

    def _losses(self, augmented: Augmented) -> dict[str, Tensor]:
        """Every loss of a step by its name, counts, and the soft alignment where a task gives one."""
        assert self._augmenter is not None
        batch, mask = augmented.batch, self._augmenter.mask_frames(self.model.masked_subsampling)
        names = recorded_names(batch)

        def compute(masked: Tensor, clean: Tensor, *read: Tensor) -> dict[str, Tensor]:
            changed: dict[str, Any] = dict(zip(names, read, strict=True))
            seen = dataclasses.replace(batch, features=clean, **changed)
            encoding = self._encode(seen, masked, mask)
            losses, shared = sum_losses(self.tasks, self._step(seen, encoding, batch.features))
            kept = {name: value for name, value in shared.items() if name == OCCUPANCY}
            return losses | counts_among(shared) | kept

        inputs = (augmented.masked, augmented.clean, *(getattr(batch, name) for name in names))
        steady = (
            batch.samples is None
            and batch.stored_frames is None
            and batch.unpaired is None
            and not batch.synthetic
            and self._freezing is None
            and all(task.steady(self.global_step) for task in self.tasks.active)
        )
        if self._recorded is None or not steady:
            return compute(*inputs)
        return self._recorded(compute, inputs)

    def _encode(self, batch: Batch, masked: Tensor, mask: Mask | None = None) -> SpeechEncoding:
        """From normalised features, which the batch has without masks, or from what is stored."""
        if self._frozen is not None and batch.stored_frames is not None:
            return self._frozen.encode(self.model, batch, batch.features, mask)
        return self.model.encode_normalised(
            masked,
            batch.feature_lengths,
            clean=batch.features,
            waveforms=batch.waveforms,
            mask=mask,
        )

    def _step(self, batch: Batch, encoding: SpeechEncoding, recorded: Tensor) -> Step:
        return Step(
            model=self.model,
            batch=batch,
            encoding=encoding,
            tokenizer=self.data.text_tokenizer,
            log_mel=self.data.features,
            recorded=recorded,
            number=self.global_step,
            wanted=self.tasks.reads if self.training else frozenset(),
            freezing=self._freezing,
        )

    def on_validation_epoch_start(self) -> None:
        """Forgets the sums of the last validation."""
        super().on_validation_epoch_start()
        self._sums = SetSums()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Losses and the metrics of every task."""
        self._evaluate("val", batch)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        clean = self.model.normalise(batch.features, batch.feature_lengths)
        encoding = self._encode(dataclasses.replace(batch, features=clean), clean)
        step = self._step(batch, encoding, batch.features)
        losses, shared = sum_losses(self.tasks, step)
        copies = self.data.are_copies(batch.ids)  # of what another process measures
        share = 0.0 if copies else 1.0
        losses = self._sums.take_losses(losses | counts_among(shared), share)
        log_losses(self, stage, losses, share * len(batch))
        if copies:
            return
        for task in self.tasks.active:
            for name, (above, below) in task.measure(step).items():
                self._sums.add(name, above, below)

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics; ``val/selection`` is what the best checkpoint is chosen by."""
        super().on_validation_epoch_end()
        self._log_metrics("val")

    def _log_metrics(self, stage: str) -> None:
        loss = self.trainer.callback_metrics[f"{stage}/loss"]
        selection = LOSS_SHARE * loss.to(self.device)
        for task in self.tasks.active:
            for metric in task.metrics:
                value = self._sums.mean(metric.name, self.device)
                if value is None:
                    continue
                self.log(f"{stage}/{metric.name}", value, sync_dist=True)
                if metric.selects:
                    # with no word right, the loss decides
                    selection = selection + value.clamp(max=1.0)
        for name, value in self._sums.losses(self.device):
            self.log(f"{stage}/{name}", value, sync_dist=True)
        self.log(SELECTION.replace("val", stage), selection, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Forgets earlier sums."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation, on the test split."""
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Logs the metrics."""
        super().on_test_epoch_end()
        self._log_metrics("test")

    def scores(self, metrics: dict[str, Any]) -> str:
        """The dev scores among logged values, such as WER and boundary error."""
        known = [one for task in self.tasks.active for one in task.metrics]
        return ", ".join(
            one.text.format(one.scale * float(metrics[f"val/{one.name}"]))
            for one in known
            if f"val/{one.name}" in metrics
        )

    def save(self, folder: Path, training: TrainingInfo) -> None:
        """Writes the bundle."""
        data = self.data
        training = dataclasses.replace(
            training, tasks=self.tasks.settings(), utterance_seconds=data.utterance_seconds
        )
        belongings = data.text_tokenizer, data.features
        save_bundle(folder, merged(self.model), *belongings, training=training)
        if self.lora.rank and self.start.bundle is not None:
            base, adapter = Path(self.start.bundle), folder.parent / ADAPTER
            save_adapter(adapter, base, self.model, *belongings, training=training)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the settings as plain values: what is needed to read the weights again."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["speechmm"] = {
            "network": dataclasses.asdict(self.network_config),
            "encoder": plain_description(self.model.encoder),
            "tasks": self.tasks.settings(),
            "seed": self.seed,
        }
        state = None if self._augmenter is None else self._augmenter.state()
        if state is not None:
            checkpoint["recombination"] = gather_from_processes(state)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what the augmentation remembers, so that an interrupted training goes on exactly."""
        super().on_load_checkpoint(checkpoint)
        states = checkpoint.get("recombination")
        if self._augmenter is not None and states and self.global_rank < len(states):
            self._augmenter.load_state(states[self.global_rank])

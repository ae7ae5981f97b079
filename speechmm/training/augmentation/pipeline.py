"""Applies all augmentations to a training batch, in one order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch
from speechmm.errors import ConfigError
from speechmm.text.tokenizer import SIL
from speechmm.training.augmentation.concatenation import ConcatenationConfig
from speechmm.training.augmentation.features import (
    FeatureAugmentConfig,
    random_gain,
    random_tempo,
    random_vtlp,
)
from speechmm.training.augmentation.noise_reverb import NoiseReverbConfig, add_noise_reverb
from speechmm.training.augmentation.planning import BatchPlanner
from speechmm.training.augmentation.recombination import RecombinationConfig
from speechmm.training.augmentation.silence import SilenceAugmenter, SilenceConfig
from speechmm.training.augmentation.spec_augment import SpecAugmentConfig, spec_augment
from speechmm.training.augmentation.word_bank import WordBank

Normalise = Callable[[Tensor, Tensor], Tensor]
"""(features, lengths) -> features as the encoder expects them."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Changes to training batches.

    They are made in this order: recombination, concatenation, pauses and utterances of silence, tempo,
    vocal tract length, noise and reverberation, level; then the model's normalisation; then masks.
    Other speeds (``data.speeds``) come before all of them, as they need the audio. The first two are
    planned before anything is read, and made by the processes that read.
    """

    recombination: RecombinationConfig = field(default_factory=RecombinationConfig)
    """Utterances made of words of others of the same speaker."""
    concatenation: ConcatenationConfig = field(default_factory=ConcatenationConfig)
    """Utterances one after the other."""
    silence: SilenceConfig = field(default_factory=SilenceConfig)
    """Pauses, and utterances of silence or noise alone."""
    features: FeatureAugmentConfig = field(default_factory=FeatureAugmentConfig)
    """Tempo, vocal tract length, level."""
    noise_reverb: NoiseReverbConfig = field(default_factory=NoiseReverbConfig)
    """Noise and reverberation."""
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    """Masks along time and frequency."""


READS_WAVEFORMS = "the encoder reads waveforms, which this does not change"


def check_unchanged_features(config: AugmentationConfig, reason: str = READS_WAVEFORMS) -> None:
    """Refuses changes to features that the encoder would not see.

    Args:
        config: What is asked for.
        reason: Why it would not.

    Raises:
        ConfigError: The first of them.
    """
    asked = {
        "recombination.share": config.recombination.share,
        "concatenation.share": config.concatenation.share,
        "silence.pause_share": config.silence.pause_share,
        "silence.alone_share": config.silence.alone_share,
        "features.tempo": config.features.tempo,
        "features.vtlp": config.features.vtlp,
        "noise_reverb.noise_share": config.noise_reverb.noise_share,
        "noise_reverb.reverb_share": config.noise_reverb.reverb_share,
    }
    for name, value in asked.items():
        if value:
            raise ConfigError(
                f"model.augmentation.{name} is {value} and {reason}; expected 0. Use data.speeds and "
                "spec_augment, which it sees."
            )


def check_recombination(config: AugmentationConfig, *, aligns: bool) -> None:
    """Refuses recombination without the task that finds the words.

    Args:
        config: What is asked for.
        aligns: Whether the task align is trained.

    Raises:
        ConfigError: It is not.
    """
    if config.recombination.share and not aligns:
        raise ConfigError(
            f"model.augmentation.recombination.share is {config.recombination.share} and "
            "model.tasks.align.weight 0; expected the task align to be trained, which finds the words. "
            "Set one of them."
        )


@dataclass(frozen=True)
class Augmented:
    """A training batch as the model sees it."""

    batch: Batch
    """Its texts, tokens and lengths belong to ``clean`` and ``masked``."""
    clean: Float[Tensor, "batch frames n_mels"]
    """Normalised features, all changes made but the masks."""
    masked: Float[Tensor, "batch frames n_mels"]
    """The same with masks."""
    recorded: Batch | None
    """Rows ``0 .. len(recorded) - 1`` are these utterances, at another tempo maybe; None where pauses
    were added."""
    epoch: int
    """Of the training."""


class Augmenter:
    """The pipeline: changes of texts are planned, those of sound made; then normalisation, masks last."""

    def __init__(
        self, config: AugmentationConfig, log_mel: LogMelConfig, *, views: int, seed: int = 0
    ):
        """Prepares the pipeline.

        Args:
            config: What to change, and how much.
            log_mel: Where the mel bands are.
            views: Copies of every utterance, 1 or 2, that are changed differently.
            seed: Of the plans.
        """
        self.config = config
        self.log_mel = log_mel
        self.views = views
        recombination, concatenation = config.recombination, config.concatenation
        self.bank = WordBank() if recombination.share else None
        silent = config.silence.pause_share or config.silence.alone_share
        self.silence = SilenceAugmenter(config.silence, log_mel) if silent else None
        self.planner: BatchPlanner | None = None
        """Plans the changes of texts; None without any."""
        if recombination.share or concatenation.share:
            self.planner = BatchPlanner(recombination, concatenation, self.bank, log_mel, seed=seed)

    def __call__(self, batch: Batch, epoch: int, normalise: Normalise) -> Augmented:
        """Changes the sound of one batch.

        Args:
            batch: Utterances as they were recorded, or put together as planned.
            epoch: Of the training, from 0 on.
            normalise: The model's own normalisation.
        """
        config = self.config
        recorded: Batch | None = batch
        if self.silence is not None and epoch >= config.silence.after_epochs:
            paused = self.silence.add_pauses(batch)
            if paused is not None:
                recorded, batch = None, paused
            batch = self.silence.add_rows(batch, silence=SIL)
        # views of one utterance keep its tempo, as they are compared frame by frame
        features, lengths, frames = random_tempo(
            batch.features, batch.feature_lengths, config.features, known=batch.frames
        )
        guides = batch.guides
        if guides is not None and config.features.tempo:
            guides = guides * (lengths / batch.feature_lengths.clamp(min=1))[:, None, None]
        batch = dataclasses.replace(
            batch, features=features, feature_lengths=lengths, frames=frames, guides=guides
        )
        if self.views > 1:
            batch = batch.duplicated()
        lengths = batch.feature_lengths
        features = random_vtlp(batch.features, self.log_mel, config.features)
        features = add_noise_reverb(
            features, lengths, config.noise_reverb, frame_shift=self.log_mel.frame_shift
        )
        features = random_gain(features, config.features)
        # the model's normalisation, and masks in what it gives
        clean = normalise(features, lengths)
        masked = spec_augment(clean, lengths, config.spec_augment)
        return Augmented(batch, clean, masked, recorded, epoch)

    def mask_frames(self, subsampling: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Masks for an encoder of waveforms, put where its convolutions end, or for stored frames.

        They are as wide in time, and as wide a share of its channels, as those of log-mel features.

        Args:
            subsampling: Feature frames per encoder frame.
        """
        masks, n_mels = self.config.spec_augment, self.log_mel.n_mels

        def mask(frames: Tensor, lengths: Tensor) -> Tensor:
            scaled = dataclasses.replace(
                masks,
                time_mask_frames=-(-masks.time_mask_frames // subsampling),
                time_mask_multiplicity=min(1.0, masks.time_mask_multiplicity * subsampling),
                freq_mask_bins=masks.freq_mask_bins * frames.shape[2] // n_mels,
            )
            return spec_augment(frames, lengths, scaled)

        return mask

    def learn(
        self, augmented: Augmented, occupancy: Float[Tensor, "batch frames tokens"] | None
    ) -> None:
        """Gives the soft alignment of a step back to those who cut utterances into words.

        Args:
            augmented: The batch of the step.
            occupancy: Share of each frame in each of its ``align_tokens``.
        """
        recorded = augmented.recorded
        if self.bank is None or occupancy is None or recorded is None or recorded.source:
            return
        rows, tokens = recorded.align_tokens.shape  # without padding for few shapes
        lengths: Int[Tensor, " rows"] = augmented.batch.feature_lengths[:rows]
        self.bank.learn(recorded, occupancy[:rows, :, :tokens], lengths, augmented.epoch)

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint needs to go on exactly; None where nothing is remembered."""
        return None if self.bank is None else self.bank.state()

    def load_state(self, state: Any) -> None:
        """Goes on from :meth:`state`."""
        if self.bank is not None:
            self.bank.load_state(state)

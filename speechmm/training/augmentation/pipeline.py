"""Applies all augmentations to a training batch, in one order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch
from speechmm.text.tokenizer import SIL, Tokenizer
from speechmm.training.augmentation.concatenation import (
    ConcatenationConfig,
    concatenate,
    draw_groups,
)
from speechmm.training.augmentation.features import (
    FeatureAugmentConfig,
    random_gain,
    random_tempo,
    random_vtlp,
)
from speechmm.training.augmentation.noise_reverb import NoiseReverbConfig, add_noise_reverb
from speechmm.training.augmentation.recombination import RecombinationConfig, WordBank
from speechmm.training.augmentation.spec_augment import SpecAugmentConfig, spec_augment

Normalise = Callable[[Tensor, Tensor], Tensor]
"""(features, lengths) -> features as the encoder expects them."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Changes to training batches.

    They are made in this order: recombination, concatenation, tempo, vocal tract length, noise and
    reverberation, level; then the model's normalisation; then masks. Other speeds (``data.speeds``)
    come before all of them, as they need the audio.
    """

    recombination: RecombinationConfig = field(default_factory=RecombinationConfig)
    """Utterances made of words of others of the same speaker."""
    concatenation: ConcatenationConfig = field(default_factory=ConcatenationConfig)
    """Utterances one after the other."""
    features: FeatureAugmentConfig = field(default_factory=FeatureAugmentConfig)
    """Tempo, vocal tract length, level."""
    noise_reverb: NoiseReverbConfig = field(default_factory=NoiseReverbConfig)
    """Noise and reverberation."""
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    """Masks along time and frequency."""


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
    """Rows ``0 .. len(recorded) - 1`` are these utterances, at another tempo maybe; None where
    several utterances share a row."""


class Augmenter:
    """The pipeline: changes of texts first, then of sound, then normalisation, masks last."""

    def __init__(
        self, config: AugmentationConfig, log_mel: LogMelConfig, tokenizer: Tokenizer, *, views: int
    ):
        """Prepares the pipeline.

        Args:
            config: What to change, and how much.
            log_mel: Where the mel bands are.
            tokenizer: Of the texts of utterances that are put together.
            views: Copies of every utterance, 1 or 2, that are changed differently.
        """
        self.config = config
        self.log_mel = log_mel
        self.tokenizer = tokenizer
        self.views = views
        share = config.recombination.share
        self.bank = WordBank(tokenizer, config.recombination) if share else None

    def __call__(self, batch: Batch, epoch: int, normalise: Normalise) -> Augmented:
        """Augments one batch.

        Args:
            batch: Utterances as they were recorded.
            epoch: Of the training, from 0 on.
            normalise: The model's own normalisation.
        """
        config = self.config
        # texts and sound change together
        if self.bank is not None and epoch >= config.recombination.after_epochs:
            batch = self.bank.recombine(batch)
        recorded: Batch | None = batch
        groups = draw_groups(batch.feature_lengths, config.concatenation)
        if groups is not None:
            recorded = None
            batch = concatenate(batch, groups, silence=SIL, space=self.tokenizer.separator)
        # the sound alone changes; views of one utterance keep its tempo, as they are compared
        # frame by frame
        features, lengths, frames = random_tempo(
            batch.features, batch.feature_lengths, config.features, known=batch.frames
        )
        batch = dataclasses.replace(
            batch, features=features, feature_lengths=lengths, frames=frames
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
        return Augmented(batch, clean, masked, recorded)

    def learn(
        self, augmented: Augmented, occupancy: Float[Tensor, "batch frames tokens"] | None
    ) -> None:
        """Gives the soft alignment of a step back to those who cut utterances into words.

        Args:
            augmented: The batch of the step.
            occupancy: Share of each frame in each of its ``align_tokens``.
        """
        recorded = augmented.recorded
        if self.bank is None or occupancy is None or recorded is None:
            return
        rows = len(recorded)
        lengths: Int[Tensor, " rows"] = augmented.batch.feature_lengths[:rows]
        self.bank.add(recorded, occupancy[:rows], lengths)

    def state(self) -> list[dict[str, Any]] | None:
        """What a checkpoint needs to go on exactly; None where nothing is remembered."""
        return None if self.bank is None else self.bank.state()

    def load_state(
        self, state: list[dict[str, Any]], features: Mapping[str, Float[Tensor, "frames n_mels"]]
    ) -> None:
        """Goes on from :meth:`state`, with the features of the utterances by id."""
        if self.bank is not None:
            self.bank.load_state(state, features)

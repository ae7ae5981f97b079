"""Adds pauses to training utterances, and utterances that are silence or noise alone.

A model that has never heard silence writes words into it. The pauses and the utterances without
speech are made of log-mel features: digital silence, or one of the sounds of :class:`NoiseBank`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.audio.log_mel import FLOOR, LogMelConfig
from speechmm.data.batch import Batch
from speechmm.errors import ConfigError
from speechmm.models.front_end import length_mask
from speechmm.models.readback import to_device
from speechmm.models.utterance_mean import frame_levels, loud_level
from speechmm.training.augmentation.noise_bank import NoiseBank

MIN_PAUSE_SECONDS = 0.1
DIGITAL_SHARE = 0.35  # of pauses and utterances without speech; the others are noise
UNDER_SHARE = 0.25  # of the noises in pauses that go on under the speech
MIN_ALONE_SHARE = 0.3  # shortest utterance without speech, relative to the longest of the batch
_NATS_PER_DB = math.log(10.0) / 10.0
_LOG_FLOOR = math.log(FLOOR)


@dataclass(frozen=True, kw_only=True)
class SilenceConfig:
    """How much silence and noise a training hears."""

    pause_share: float = 0.0
    """Share of batches whose utterances get pauses before and after them."""
    max_seconds: float = 3.0
    """Longest pauses of an utterance, before and after it together; the shortest are 0.1 s."""
    alone_share: float = 0.0
    """Utterances of silence or noise alone that are added, relative to the others; their text is
    empty."""
    min_db: float = -60.0
    """Softest noise, relative to the loud frames of the utterance."""
    max_db: float = -10.0
    """Loudest noise in a pause; without speech it may be as loud as that."""
    after_epochs: int = 0
    """Epochs before the first pause: a model that has learned to align is not led astray by it."""

    def __post_init__(self) -> None:
        shares = (self.pause_share, self.alone_share)
        if any(not 0.0 <= share <= 1.0 for share in shares):
            raise ConfigError(
                f"model.augmentation.silence: pause_share, alone_share are {shares}; expected 0 to 1 "
                "each. Correct the config."
            )
        if self.min_db > self.max_db or self.max_seconds < MIN_PAUSE_SECONDS:
            raise ConfigError(
                f"model.augmentation.silence: min_db {self.min_db}, max_db {self.max_db}, max_seconds "
                f"{self.max_seconds}; expected min_db not above max_db, and {MIN_PAUSE_SECONDS} s or "
                "more. Correct the config."
            )
        if self.after_epochs < 0:
            raise ConfigError(
                f"model.augmentation.silence: after_epochs is {self.after_epochs}; expected 0 or more. "
                "Correct the config."
            )


class SilenceAugmenter:
    """Adds pauses and utterances without speech to batches."""

    def __init__(self, config: SilenceConfig, log_mel: LogMelConfig):
        self.config = config
        self.frame_shift = log_mel.frame_shift
        self.bank = NoiseBank(log_mel)

    def add_pauses(self, batch: Batch, generator: torch.Generator | None = None) -> Batch | None:
        """The batch with a pause before and after every utterance; None where it stays as it is.

        All utterances of a batch grow by as much, so that none of it is padding.

        Args:
            batch: The utterances.
            generator: Of the random choices, on the CPU; torch's own when not given.
        """
        config = self.config
        if not config.pause_share or _draw(generator) >= config.pause_share:
            return None
        longest = math.log(config.max_seconds / MIN_PAUSE_SECONDS)
        seconds = MIN_PAUSE_SECONDS * math.exp(longest * _draw(generator))
        added = max(1, round(seconds / self.frame_shift))
        features, lengths = batch.features, batch.feature_lengths
        rows, frames, n_mels = features.shape
        device = features.device
        before = _uniform(rows, -0.3, 1.3, generator).clamp(0.0, 1.0)  # often all on one side
        start = to_device((before * added).round().long(), device)[:, None]
        level = loud_level(frame_levels(features), lengths)[:, :, None]
        noise = self._two_noises(
            (rows, frames + added), level, (config.min_db, config.max_db), start + 1, generator
        )
        # speech where it is, noise elsewhere, and some noises under the speech as well
        place = torch.arange(frames + added, device=device)[None, :] - start
        spoken = ((place >= 0) & (place < lengths[:, None]))[:, :, None]
        moved = features.gather(1, place.clamp(0, frames - 1)[:, :, None].expand(-1, -1, n_mels))
        under = to_device(_uniform(rows, 0.0, 1.0, generator) < UNDER_SHARE, device)[:, None, None]
        speech = torch.where(under, torch.logaddexp(moved, noise), moved)
        valid = length_mask(lengths + added, frames + added)[:, :, None]
        out = torch.where(spoken, speech, noise).masked_fill(~valid, 0.0)
        grown = [one + added for one in batch.frames]
        guides = None if batch.guides is None else batch.guides + start[:, :, None]
        return dataclasses.replace(  # the recordings have no such pauses
            batch,
            features=out,
            feature_lengths=lengths + added,
            frames=grown,
            guides=guides,
            spoken=None,
        )

    def add_rows(
        self, batch: Batch, *, silence: int, generator: torch.Generator | None = None
    ) -> Batch:
        """The batch with utterances of silence or noise after its own; their texts are empty.

        Args:
            batch: The utterances.
            silence: Id that stands for silence in ``align_tokens``.
            generator: Of the random choices, on the CPU; torch's own when not given.
        """
        share = self.config.alone_share
        if not share:
            return batch
        count = int((_uniform(len(batch), 0.0, 1.0, generator) < share).sum())
        if not count:
            return batch
        features = batch.features
        frames, device = features.shape[1], features.device
        level = loud_level(frame_levels(features), batch.feature_lengths).mean()[None, None, None]
        shorter = _uniform(count, MIN_ALONE_SHARE, 1.0, generator)
        known = (shorter * frames).round().clamp(min=1).long()
        lengths = to_device(known, device)
        switch = (_uniform(count, -1.0, 1.0, generator) * frames).long()
        switch = to_device(switch, device)[:, None]
        noise = self._two_noises(
            (count, frames), level, (self.config.min_db, 0.0), switch, generator
        )
        noise = noise.masked_fill(~length_mask(lengths, frames)[:, :, None], 0.0)
        aligned = batch.align_tokens.new_zeros(count, batch.align_tokens.shape[1])
        aligned[:, 0] = silence
        none = lengths.new_zeros(count)
        return dataclasses.replace(
            batch,
            ids=batch.ids + [f"silence-{number}" for number in range(count)],
            features=torch.cat([features, noise]),
            feature_lengths=torch.cat([batch.feature_lengths, lengths]),
            frames=batch.frames + known.tolist(),
            tokens=torch.cat([batch.tokens, batch.tokens.new_zeros(count, batch.tokens.shape[1])]),
            token_lengths=torch.cat([batch.token_lengths, none]),
            align_tokens=torch.cat([batch.align_tokens, aligned]),
            align_lengths=torch.cat([batch.align_lengths, none + 1]),
            texts=batch.texts + [""] * count,
            references=batch.references + [None] * count,
            speakers=batch.speakers + [""] * count,
            languages=None  # as if those of the first rows had been silent
            if batch.languages is None
            else torch.cat([batch.languages, batch.languages[:count]]),
            guides=None
            if batch.guides is None
            else torch.cat(
                [batch.guides, batch.guides.new_full((count, *aligned.shape[1:], 2), math.nan)]
            ),
            speeds=batch.speeds + [1.0] * count,
            recombined=batch.recombined + [True] * count,
        )

    def _two_noises(
        self,
        shape: tuple[int, int],
        level: Float[Tensor, "#rows 1 1"],
        decibel: tuple[float, float],
        switch: Int[Tensor, "rows 1"],
        generator: torch.Generator | None,
    ) -> Float[Tensor, "rows frames n_mels"]:
        """One sound up to a frame of each row and another one after it."""
        first, second = (self._noise(shape, level, decibel, generator) for _ in range(2))
        frame = torch.arange(shape[1], device=level.device)[None, :, None]
        return torch.where(frame < switch[:, :, None], first, second)

    def _noise(
        self,
        shape: tuple[int, int],
        level: Float[Tensor, "#rows 1 1"],
        decibel: tuple[float, float],
        generator: torch.Generator | None,
    ) -> Float[Tensor, "rows frames n_mels"]:
        """A sound a row, digital silence or noise, in decibels relative to a level."""
        rows, frames = shape
        device = level.device
        offset = to_device(_uniform(rows, *decibel, generator) * _NATS_PER_DB, device)
        digital = to_device(_uniform(rows, 0.0, 1.0, generator) < DIGITAL_SHARE, device)
        sound = to_device(self.bank.draw(rows, frames, generator), device)
        sound = (sound + level + offset[:, None, None]).clamp(min=_LOG_FLOOR)
        return sound.masked_fill(digital[:, None, None], _LOG_FLOOR)


def _draw(generator: torch.Generator | None) -> float:
    return float(torch.rand((), generator=generator))


def _uniform(
    count: int, low: float, high: float, generator: torch.Generator | None
) -> Float[Tensor, " count"]:
    return low + (high - low) * torch.rand(count, generator=generator)

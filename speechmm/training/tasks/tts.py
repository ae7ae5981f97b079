"""Trains a model to speak: its own text, stretched by its own alignment, to log-mel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import SpokenTargets
from speechmm.errors import ConfigError
from speechmm.models.front_end import length_mask
from speechmm.models.speaking import frames_per_encoder_frame, speak
from speechmm.models.speech_text import TTS
from speechmm.models.voice import SPEECH_MEL, TimedTokens, Voice, frame_energy, token_means
from speechmm.training.tasks.align import OCCUPANCY
from speechmm.training.tasks.task import Step, Task, TaskLosses
from speechmm.training.tasks.text import untouched

LEAST_FRAMES = 0.5
"""A token that lasts less has no pitch and no energy to be learned."""


@dataclass(frozen=True, kw_only=True)
class Tts(Task):
    """Text to speech: durations, pitch, energy and log-mel, all frames at once.

    What is learned from is the recording of each utterance that is trained on as it is; how long its
    tokens last is read off the alignment head. Source: Ren et al. 2021, "FastSpeech 2" (2006.04558).
    """

    name: ClassVar[str] = "tts"
    reads: ClassVar[frozenset[str]] = frozenset({OCCUPANCY})

    weight: float = 0.0
    """Weight of the task (normalised log-mel, per value); 0 switches it off."""
    square_weight: float = 0.5
    """Weight of the squared error of log-mel beside the absolute one."""
    prosody_weight: float = 0.1
    """Weight of the errors of durations, pitch and energy beside that of log-mel."""
    after_steps: int = 0
    """Optimiser steps before the task begins; alignments are poor in the first few hundred."""
    share: float = 1.0
    """Of the utterances of every batch that are spoken, in (0, 1]; less costs less."""
    token_layers: int = 3
    """Convolutions over the tokens of a text."""
    mel_layers: int = 4
    """Convolutions over frames of log-mel."""
    mel: LogMelConfig = field(default_factory=lambda: SPEECH_MEL)
    """Log-mel that is spoken; what is recognised is data.features."""

    def __post_init__(self) -> None:
        weights = (self.weight, self.square_weight, self.prosody_weight)
        if min(*weights, self.after_steps) < 0 or min(self.token_layers, self.mel_layers) < 1:
            raise ConfigError(
                f"model.tasks.tts: weight, square_weight, prosody_weight are {weights}, after_steps "
                f"{self.after_steps}, token_layers {self.token_layers}, mel_layers {self.mel_layers}; "
                "expected nothing negative, and a layer or more of each. Correct the config."
            )
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"model.tasks.tts: share is {self.share}; expected more than 0, at most 1. Correct the "
                "config."
            )

    @property
    def heads(self) -> frozenset[str]:
        """The head that speaks."""
        return frozenset({TTS}) if self.weight else frozenset()

    @property
    def requires(self) -> frozenset[str]:
        """The alignment head, which tells how long tokens last."""
        return frozenset({"align"})

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses | None:
        """Errors of log-mel, durations, pitch and energy, in training and while measuring."""
        voice, targets = step.model.voice, step.batch.spoken
        assert voice is not None
        unused = untouched(voice)
        if step.number < self.after_steps and step.training:
            return TaskLosses({}, unused)
        if targets is None:  # other processes may have some
            zero, none = unused.detach(), torch.zeros(len(LOSSES), device=unused.device)
            # theirs wait for each of these
            losses = {name: step.mean(zero, none[0]) for name in LOSSES}
            return TaskLosses(losses, unused, counts=by_name(step.count(none)))
        losses, counts = self._errors(step, voice, targets, shared[OCCUPANCY])
        mel = losses["loss_mel"] + self.square_weight * losses["loss_mel_square"]
        said = losses["loss_durations"] + losses["loss_prosody"]
        return TaskLosses(losses, mel + self.prosody_weight * said + unused, counts=counts)

    def _errors(
        self,
        step: Step,
        voice: Voice,
        targets: SpokenTargets,
        occupancy: Float[Tensor, "batch frames align_tokens"],
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        """Every loss by name, and how many values it is a mean of."""
        rows = targets.rows
        tokens, lengths = step.batch.align_tokens[rows], step.batch.align_lengths[rows]
        timed = TimedTokens(
            token_frames(occupancy[rows].sum(dim=1), targets.lengths),
            targets.lengths,
            targets.mel.shape[1],
        )
        shares = timed.shares()
        prosody, known = true_prosody(voice, targets, shares)
        factor = frames_per_encoder_frame(step.model, step.log_mel)
        said = speak(
            step.model, tokens, lengths, targets.speakers, timed, factor=factor, prosody=prosody
        )
        valid = length_mask(targets.lengths, timed.longest)
        found = said.mel - voice.normalised(targets.mel)
        mel = MaskedMean(step, valid[:, :, None].expand_as(found))
        inside = length_mask(lengths, tokens.shape[1])
        token = MaskedMean(step, inside)
        durations = said.log_durations.float() - timed.durations.log1p()
        long = inside & (timed.durations > LEAST_FRAMES)
        spoken = MaskedMean(step, long[:, :, None] & known)
        losses = (
            mel(found.abs()),
            mel(found.square()),
            token(durations.abs()),
            spoken((said.prosody.float() - prosody).square()),
        )
        counts = torch.stack([mel.count, mel.count, token.count, spoken.count])
        return by_name(losses), by_name(step.count(counts))


LOSSES = ("loss_mel", "loss_mel_square", "loss_durations", "loss_prosody")


def by_name(values: Iterable[Tensor]) -> dict[str, Tensor]:
    """What belongs to each of ``LOSSES``."""
    return dict(zip(LOSSES, values, strict=True))


class MaskedMean:
    """Means of values where a mask is true, over all processes."""

    def __init__(self, step: Step, mask: Tensor):
        self.step = step
        self.mask = mask
        self.count = mask.sum()

    def __call__(self, values: Tensor) -> Float[Tensor, ""]:
        """The mean of some values of the mask's shape."""
        mean = values.masked_fill(~self.mask, 0.0).sum() / self.count.clamp(min=1)
        return self.step.mean(mean, self.count)


def token_frames(
    occupancy: Float[Tensor, "targets tokens"], lengths: Int[Tensor, " targets"]
) -> Float[Tensor, "targets tokens"]:
    """Frames of log-mel that tokens last, in proportion to what the alignment gives them.

    The alignment is of features at another rate, and of another speed and tempo maybe.
    """
    total = occupancy.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return occupancy.detach().float() * (lengths[:, None] / total)


@torch.no_grad()
def true_prosody(
    voice: Voice, targets: SpokenTargets, shares: Float[Tensor, "targets frames tokens"]
) -> tuple[Float[Tensor, "targets tokens 2"], Tensor]:
    """Pitch and energy of each token, in standard deviations, and which of them are known.

    The pitch is the mean of the token's frames, voiced and loud ones counting most; a token without a
    voiced frame has none, for which 0 stands, the mean.
    """
    valid = length_mask(targets.lengths, targets.mel.shape[1]).to(shares.dtype)
    mel = targets.mel.float()
    pitch, weight = token_means(targets.log_pitch.float(), targets.pitch_weight.float(), shares)
    energy, frames = token_means(frame_energy(mel), valid, shares)
    known = torch.stack([weight > math.exp(-12), frames > 0], dim=2)
    prosody = (torch.stack([pitch, energy], dim=2) - voice.prosody_mean) / voice.prosody_std
    return prosody.clamp(-4.0, 4.0) * known, known

"""Trains text to look like the speech that says it, half-way up the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.errors import ConfigError
from speechmm.models.front_end import length_mask
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.text_encoding import encode_stretched
from speechmm.training.tasks.align import OCCUPANCY
from speechmm.training.tasks.task import Step, Task, TaskLosses
from speechmm.training.tasks.text import (
    make_text_front_end,
    text_front_end,
    untouched,
)


@dataclass(frozen=True, kw_only=True)
class Match(Task):
    """Text is pulled to the speech that says it, frame by frame, half-way up the encoder.

    The text of each utterance is stretched by the model's own alignment of it. Speech gets no gradient:
    it is what text is to look like. The idea: Chen et al. 2022, "MAESTRO", equation 2.
    """

    name: ClassVar[str] = "match"
    reads: ClassVar[frozenset[str]] = frozenset({OCCUPANCY})

    weight: float = 0.0
    """Weight of the distance (1 minus the cosine, per encoder frame); 0 switches it off."""
    after_steps: int = 0
    """Optimiser steps before the task begins."""

    def __post_init__(self) -> None:
        if self.weight < 0 or self.after_steps < 0:
            raise ConfigError(
                f"model.tasks.match: weight is {self.weight}, after_steps {self.after_steps}; expected "
                "nothing negative. Correct the config."
            )

    @property
    def requires(self) -> frozenset[str]:
        """The alignment head, which tells where each token is."""
        return frozenset({"align"})

    @property
    def reads_middle(self) -> bool:
        """As that is what is compared."""
        return True

    def make_heads(self, model: SpeechTextModel) -> dict[str, nn.Module]:
        """The front end of text, unless the task text has made it."""
        return make_text_front_end(model, self.name)

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses | None:
        """The distance, in training only."""
        if not step.training:
            return None
        batch, speech = step.batch, step.encoding
        front_end = text_front_end(step.model)
        unused = untouched(front_end)
        if step.number < self.after_steps:
            return TaskLosses({}, unused)
        text = encode_stretched(
            step.model,
            front_end,
            batch.align_tokens,
            shared[OCCUPANCY].sum(dim=1),
            batch.feature_lengths,
            longest=speech.encoded.shape[1] * step.model.subsampling,
            factor=step.model.subsampling,
        )
        loss = distance(text.middle, speech.middle.detach(), speech.enc_lengths)
        loss = step.mean(loss, speech.enc_lengths.sum())
        return TaskLosses({"loss_match": loss}, loss + unused)


def distance(
    text: Float[Tensor, "batch enc_frames d_model"],
    speech: Float[Tensor, "batch enc_frames d_model"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """1 minus the cosine of each pair of valid frames, on average."""
    cosine = F.cosine_similarity(text.float(), speech.float(), dim=2)
    valid = length_mask(lengths, text.shape[1])
    return ((1.0 - cosine) * valid).sum() / valid.sum().clamp(min=1)

"""Trains the decoder to attend where the alignment head has the token it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.data.batch import Batch
from speechmm.errors import ConfigError
from speechmm.models.front_end import length_mask
from speechmm.text.tokenizer import SIL
from speechmm.training.constants import constant
from speechmm.training.tasks.align import OCCUPANCY
from speechmm.training.tasks.asr import LOG_ATTENTION
from speechmm.training.tasks.task import Step, Task, TaskLosses

MARGIN = 2
"""Encoder frames to each side of a token that count as its own: neighbours carry its sound too.
A frame reaches half a frame to each side of where it is centred."""

FLOOR = 1e-3
"""What a frame elsewhere counts, so that a wrong alignment costs 7 nats at most."""


@dataclass(frozen=True, kw_only=True)
class GuidedAttention(Task):
    """The decoder attends where the soft alignment has its next token (docs/decisions/0014)."""

    name: ClassVar[str] = "guided_attention"
    reads: ClassVar[frozenset[str]] = frozenset({LOG_ATTENTION, OCCUPANCY})

    weight: float = 0.0
    """Weight of the loss (nats per guided token); 0 switches it off."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(
                f"model.tasks.guided_attention: weight is {self.weight}; expected no negative weight. "
                "Correct the config."
            )

    @property
    def requires(self) -> frozenset[str]:
        """Decoder and alignment head, as one guides the other."""
        return frozenset({"decoder", "align"})

    def steady(self, step: int) -> bool:
        """Always."""
        del step
        return True

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses | None:
        """The guidance loss, in training only."""
        if not step.training:
            return None
        windows, guided = token_windows(
            step.batch,
            shared[OCCUPANCY],
            constant(tuple(step.tokenizer.aligned_counts), step.batch.tokens.device),
            step.model.subsampling,
            step.encoding.encoded.shape[1],
        )
        loss = guidance_loss(shared[LOG_ATTENTION], windows, guided)
        loss = step.mean(loss, guided.sum())
        rows = step.count(guided.any(dim=1).sum())
        return TaskLosses({"loss_guidance": loss}, loss, counts={"loss_guidance": rows})


def token_windows(
    batch: Batch,
    occupancy: Float[Tensor, "batch frames align_tokens"],
    counts: Int[Tensor, " vocab_size"],
    subsampling: int,
    enc_frames: int,
) -> tuple[Float[Tensor, "batch tokens enc_frames"], Bool[Tensor, "batch tokens"]]:
    """Which encoder frames carry each token: 1 where the alignment has it or nearly, 0 elsewhere.

    Args:
        batch: With tokens and aligned tokens of the same texts.
        occupancy: Share of each feature frame in each aligned token.
        counts: Of ``Tokenizer.aligned_counts``.
        subsampling: Feature frames per encoder frame.
        enc_frames: Encoder frames, with padding.

    Returns:
        The windows, and which tokens have one: not spaces, not padding, and none of a text
        whose tokens and aligned tokens do not add up.
    """
    units = (batch.align_tokens != SIL) & length_mask(
        batch.align_lengths, batch.align_tokens.shape[1]
    )
    spoken = length_mask(batch.token_lengths, batch.tokens.shape[1])
    covered = counts.to(batch.tokens.device)[batch.tokens] * spoken
    ends = covered.cumsum(dim=1)
    agree = covered.sum(dim=1) == units.sum(dim=1)
    # owned[b, token, align_token]: which aligned tokens are those of a token, by counting both
    number = units.cumsum(dim=1)[:, None, :]  # of each unit in its text, from 1 on
    owned = units[:, None, :] & (number <= ends[:, :, None])
    owned &= number > (ends - covered)[:, :, None]
    # share of each feature frame in each token, then the largest share near each encoder frame
    said = owned.to(occupancy.dtype) @ occupancy.transpose(1, 2)
    # encoder frame j is centred on feature frame j * subsampling: as far to either side of that
    reach = MARGIN * subsampling + subsampling // 2
    said = F.pad(said, (reach, enc_frames * subsampling - occupancy.shape[1] + reach))
    windows = F.max_pool1d(said, 2 * reach + 1, stride=subsampling)
    return windows, (covered > 0) & agree[:, None]


def guidance_loss(
    log_attention: Float[Tensor, "batch positions enc_frames"],
    windows: Float[Tensor, "batch tokens enc_frames"],
    guided: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Minus the logarithm of the attention that lies in a token's window, nats per guided token.

    Nothing is asked of how it is spread there. Source of the idea: Tachibana et al. 2018,
    "Efficiently Trainable Text-to-Speech System Based on Deep Convolutional Networks with Guided
    Attention", section 4, with the model's own alignment in place of the diagonal.

    Args:
        log_attention: Of each position, which predicts the token of the same index; the last one
            predicts the end.
        windows: Of :func:`token_windows`.
        guided: Likewise.
    """
    inside = log_attention[:, :-1].float() + windows.clamp(min=FLOOR).log()
    return -(inside.logsumexp(dim=2) * guided).sum() / guided.sum().clamp(min=1)

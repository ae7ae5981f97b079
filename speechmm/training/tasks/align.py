"""Trains alignment: speech and its text to the frames of every token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from speechmm.errors import ConfigError
from speechmm.models.forward_sum import (
    aligned_frames,
    beta_binomial_log_prior,
    forward_sum_loss,
    frame_loss,
    gather_tokens,
    guided_log_prior,
    label_scores,
    silence_log_prior,
)
from speechmm.text.tokenizer import SIL
from speechmm.training.tasks.boundary_errors import boundary_errors_ms
from speechmm.training.tasks.task import Metric, Step, Task, TaskLosses

OCCUPANCY = "occupancy"
"""Shared: the soft alignment (batch, frames, align_tokens), without gradient."""


@dataclass(frozen=True, kw_only=True)
class Align(Task):
    """Speech and text to a monotonic alignment, learned from the text alone.

    The local view of the alignment head learns by the forward-sum loss with a label prior, the
    context view from the local one's soft alignment (docs/decisions/0008).
    """

    name: ClassVar[str] = "align"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="boundary_ms", text="boundaries {:.0f} ms"),
    )

    weight: float = 1.0
    """Weight of the task (nats per frame); 0 switches it off."""
    warmup_steps: int = 100
    """Optimiser steps in which priors lead the alignments (near the diagonal, or where the universal
    aligner has the words; silence is soft), fading to nothing."""

    def __post_init__(self) -> None:
        if self.weight < 0 or self.warmup_steps < 0:
            raise ConfigError(
                f"model.tasks.align: weight is {self.weight}, warmup_steps {self.warmup_steps}; expected "
                "nothing negative. Correct the config."
            )

    @property
    def gives(self) -> frozenset[str]:
        """Where each token is spoken."""
        return frozenset({OCCUPANCY})

    @property
    def heads(self) -> frozenset[str]:
        """The alignment head."""
        return frozenset({"align"}) if self.weight else frozenset()

    def steady(self, step: int) -> bool:
        """After the warm-up, when the priors have gone."""
        return step >= self.warmup_steps

    def prior_scale(self, step: Step) -> float:
        """How much the priors lead: 1 at the start of training, 0 after the warm-up."""
        if not step.training:
            return 0.0
        return max(0.0, 1.0 - step.number / max(1, self.warmup_steps))

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses:
        """The forward-sum loss of the local view, the frame loss of the context view."""
        model, encoding, batch = step.model, step.encoding, step.batch
        head, scale = model.alignment_head, self.prior_scale(step)
        tokens, lengths = batch.align_tokens, batch.feature_lengths
        silent = tokens == SIL
        local, context = head(encoding.features, lengths, encoding.encoded, encoding.enc_lengths)
        # local view: label prior divided out, more of it while the warm-up lasts
        weight = model.config.align_prior
        scores, marginal = label_scores(local, lengths, weight + scale * (1.0 - weight), step.sum)
        log_prior = None
        if scale > 0:
            place = beta_binomial_log_prior(
                lengths, batch.align_lengths, local.shape[1], tokens.shape[1]
            )
            if batch.guides is not None:
                place = guided_log_prior(batch.guides, local.shape[1], place)
            log_prior = scale * (silence_log_prior(encoding.features, lengths, silent) + place)
        # sum over all monotonic alignments, and the soft alignment it is made of
        sum_loss, occupancy = forward_sum_loss(
            gather_tokens(scores, tokens),
            lengths,
            batch.align_lengths,
            silent,
            log_prior=log_prior,
        )
        if step.training and step.learns(head):  # else its label prior stays, too
            head.update_prior(marginal)
        # context view: learns the soft alignment frame by frame
        frames = aligned_frames(lengths, occupancy)
        losses = {
            "loss_forward_sum": step.mean(sum_loss, frames),
            "loss_frames": step.mean(frame_loss(context, lengths, tokens, occupancy), frames),
        }
        total = losses["loss_forward_sum"] + losses["loss_frames"]
        return TaskLosses(losses, total, {OCCUPANCY: occupancy})

    def measure(self, step: Step) -> dict[str, tuple[float, float]]:
        """Boundary errors (ms) of words whose times the corpus knows, and their number."""
        errors = boundary_errors_ms(
            step.model,
            step.encoding,
            step.batch,
            step.tokenizer,
            step.log_mel,
            ctc_windows="ctc" in step.model.heads,
        )
        return {"boundary_ms": (float(sum(errors)), float(len(errors)))}

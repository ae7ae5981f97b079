"""The tasks and their losses: what one batch teaches the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.data.batch import Batch
from speechmm.errors import ConfigError
from speechmm.models import forward_sum
from speechmm.models import losses as recognition
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import EOS, SIL
from speechmm.training.tasks.guided_attention import guidance_loss, token_windows


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
    guidance_weight: float = 0.0
    """Weight of the decoder listening where the task align has the token it writes."""
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
        others = (self.consistency_weight, self.guidance_weight)
        if min(*weights, *others) < 0 or max(weights) == 0:
            raise ConfigError(
                f"objectives: asr_weight, align_weight are {weights}, consistency_weight, "
                f"guidance_weight {others}; expected no negative weight, and asr or align "
                "positive. Correct the config."
            )
        if self.guidance_weight and not {"decoder", "align"} <= self.outputs:
            raise ConfigError(
                f"objectives: guidance_weight is {self.guidance_weight}, asr_weight and "
                f"align_weight {weights}, ctc_weight {self.ctc_weight}; expected decoder and "
                "alignment to be trained, as one guides the other. Correct the config."
            )
        if self.consistency_weight and "ctc" not in self.outputs:
            raise ConfigError(
                f"objectives: consistency_weight is {self.consistency_weight}, asr_weight "
                f"{self.asr_weight} and ctc_weight {self.ctc_weight}; expected CTC to be trained, "
                "which is made consistent. Correct the config."
            )

    @property
    def outputs(self) -> frozenset[str]:
        """What of the model is trained (``speechmm.models.speech_text.OUTPUTS``)."""
        trained = {
            "ctc": self.asr_weight * self.ctc_weight,
            "decoder": self.asr_weight * (1.0 - self.ctc_weight),
            "align": self.align_weight,
        }
        return frozenset(output for output, weight in trained.items() if weight > 0)


def task_losses(
    model: SpeechTextModel,
    settings: ObjectivesConfig,
    batch: Batch,
    encoding: SpeechEncoding,
    *,
    early: float = 0.0,
    counts: Int[Tensor, " vocab_size"] | None = None,
) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, "batch frames tokens"] | None]:
    """Every loss by name, and the soft alignment where the task ``align`` is trained.

    Args:
        model: In training or in evaluation mode; consistency is of training only.
        settings: Tasks and weights.
        batch: Utterances of which ``encoding`` is.
        encoding: Of the speech.
        early: How much the priors lead the alignments: 1 at the start, 0 after the warm-up.
        counts: Aligned tokens of every token (``Tokenizer.aligned_counts``); without them
            nothing is guided.

    Returns:
        The losses, ``loss`` being their weighted sum, and the occupancy of ``align_tokens``.
    """
    losses: dict[str, Tensor] = {}
    total, occupancy = encoding.encoded.new_zeros(()), None
    guided = bool(settings.guidance_weight) and counts is not None
    log_attention: Tensor | None = None
    if settings.asr_weight:
        losses, asr, log_attention = recognition_losses(
            model, settings, batch, encoding, with_attention=guided
        )
        total = total + settings.asr_weight * asr
    if settings.align_weight:
        align, occupancy = alignment_losses(model, batch, encoding, early=early)
        losses |= align
        total = total + settings.align_weight * sum(align.values())
    if log_attention is not None and occupancy is not None and counts is not None:
        windows, has_window = token_windows(
            batch, occupancy, counts, model.subsampling, encoding.encoded.shape[1]
        )
        losses["loss_guidance"] = guidance_loss(log_attention, windows, has_window)
        total = total + settings.guidance_weight * losses["loss_guidance"]
    losses["loss"] = total
    return losses, occupancy


def recognition_losses(
    model: SpeechTextModel,
    settings: ObjectivesConfig,
    batch: Batch,
    encoding: SpeechEncoding,
    *,
    with_attention: bool,
) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, ""], Tensor | None]:
    """Speech to text by CTC and decoder, as far as trained; their weighted sum; and attention."""
    losses: dict[str, Tensor] = {}
    log_attention: Tensor | None = None
    asr = encoding.encoded.new_zeros(())
    if "ctc" in settings.outputs:
        losses, ctc = ctc_losses(model, settings, batch, encoding)
        asr = asr + settings.ctc_weight * ctc
    if "decoder" in settings.outputs:
        decoded = model.decode(batch.tokens, encoding, with_attention=with_attention)
        log_attention = decoded.log_attention
        losses["loss_attention"] = recognition.attention_loss(
            decoded.logits,
            batch.tokens,
            batch.token_lengths,
            eos=EOS,
            label_smoothing=settings.label_smoothing,
        )
        asr = asr + (1.0 - settings.ctc_weight) * losses["loss_attention"]
    return losses, asr, log_attention


def ctc_losses(
    model: SpeechTextModel, settings: ObjectivesConfig, batch: Batch, encoding: SpeechEncoding
) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, ""]]:
    """CTC at one or two heights and its consistency; and their weighted sum."""
    losses: dict[str, Tensor] = {}
    log_probs = model.ctc_log_probs(encoding)
    losses["loss_ctc"] = recognition.ctc_loss(
        log_probs, encoding.enc_lengths, batch.tokens, batch.token_lengths
    )
    ctc = losses["loss_ctc"]
    if settings.intermediate_weight:
        losses["loss_ctc_middle"] = recognition.ctc_loss(
            model.ctc_log_probs(encoding, middle=True),
            encoding.enc_lengths,
            batch.tokens,
            batch.token_lengths,
        )
        ctc = torch.lerp(ctc, losses["loss_ctc_middle"], settings.intermediate_weight)
    if settings.consistency_weight and model.training:
        losses["loss_consistency"] = recognition.consistency_loss(
            log_probs, encoding.enc_lengths, batch.token_lengths
        )
        ctc = ctc + settings.consistency_weight * losses["loss_consistency"]
    return losses, ctc


def alignment_losses(
    model: SpeechTextModel, batch: Batch, encoding: SpeechEncoding, *, early: float
) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, "batch frames tokens"]]:
    """The local view learns from the text, the context view from the local one."""
    head = model.alignment_head
    tokens, lengths = batch.align_tokens, batch.feature_lengths
    silent = tokens == SIL
    local = head.local_vectors(encoding.features, lengths)
    weight = model.config.align_prior
    scores, marginal = forward_sum.label_scores(
        head.local_log_probs(local), lengths, weight + early * (1.0 - weight)
    )
    log_prior = None
    if early > 0:
        log_prior = early * (
            forward_sum.silence_log_prior(encoding.features, lengths, silent)
            + forward_sum.beta_binomial_log_prior(
                lengths, batch.align_lengths, local.shape[1], tokens.shape[1]
            )
        )
    loss, occupancy = forward_sum.forward_sum_loss(
        forward_sum.gather_tokens(scores, tokens),
        lengths,
        batch.align_lengths,
        silent,
        log_prior=log_prior,
    )
    if model.training:
        head.update_prior(marginal)
    context = head.context_log_probs(local, encoding.encoded, encoding.enc_lengths)
    losses = {
        "loss_forward_sum": loss,
        "loss_frames": forward_sum.frame_loss(context, lengths, tokens, occupancy),
    }
    return losses, occupancy

"""Trains speech to text: CTC on the encoder, cross-entropy on the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.data.translated import Languages
from speechmm.errors import ConfigError
from speechmm.evaluation.error_rate import count_errors
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.losses import (
    attention_loss,
    consistency_loss,
    ctc_frames_needed,
    ctc_loss,
)
from speechmm.models.text_decoder import Tag
from speechmm.text.languages import tag_of
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import EOS
from speechmm.training.tasks.task import Metric, Step, Task, TaskLosses

LOG_ATTENTION = "log_attention"
"""Shared: where the decoder attends to, as logarithms (batch, positions, enc_frames)."""


@dataclass(frozen=True, kw_only=True)
class Asr(Task):
    """Speech to text, by CTC and by the decoder."""

    name: ClassVar[str] = "asr"
    tags: ClassVar[tuple[str, ...]] = ("asr",)
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="wer", text="dev WER {:.1f} %", scale=100.0, selects=True),
        Metric(name="language_errors", text="language wrong {:.1f} %", scale=100.0),
    )
    synthetic: ClassVar[bool] = True

    weight: float = 1.0
    """Weight of the task; 0 switches it off."""
    ctc_weight: float = 0.3
    """Share of CTC in the task; the rest is the decoder's cross-entropy."""
    intermediate_weight: float = 0.0
    """Share of CTC that is computed half-way up the encoder. Source: Lee and Watanabe 2021,
    "Intermediate Loss Regularization for CTC-based Speech Recognition", equation 13."""
    consistency_weight: float = 0.0
    """Weight of the consistency of CTC between two differently masked views of every utterance,
    relative to CTC; above 0 each step holds every utterance twice. Source: Yao et al. 2025,
    "CR-CTC", equation 5."""
    label_smoothing: float = 0.1
    """Share of probability the decoder's targets spread over the whole vocabulary."""
    language_tags: bool = False
    """Ask the decoder for the language that the manifests name, and teach it to tell which one is
    spoken."""
    language_weight: float = 0.1
    """Weight of telling the language (nats per utterance), relative to the decoder's cross-entropy."""

    def __post_init__(self) -> None:
        shares = (self.ctc_weight, self.intermediate_weight, self.label_smoothing)
        if any(not 0.0 <= share <= 1.0 for share in shares):
            raise ConfigError(
                f"model.tasks.asr: ctc_weight, intermediate_weight, label_smoothing are {shares}; "
                "expected 0 to 1 each. Correct the config."
            )
        if min(self.weight, self.consistency_weight, self.language_weight) < 0:
            raise ConfigError(
                f"model.tasks.asr: weight is {self.weight}, consistency_weight "
                f"{self.consistency_weight}, language_weight {self.language_weight}; expected no negative "
                "weight. Correct the config."
            )
        if self.consistency_weight and "ctc" not in self.heads:
            raise ConfigError(
                f"model.tasks.asr: consistency_weight is {self.consistency_weight}, weight {self.weight} "
                f"and ctc_weight {self.ctc_weight}; expected CTC to be trained, which is made "
                "consistent. Correct the config."
            )

        if self.language_tags and self.weight and "decoder" not in self.heads:
            raise ConfigError(
                f"model.tasks.asr: language_tags is true and ctc_weight {self.ctc_weight}; expected a "
                "decoder to be trained, which they are asked of. Correct the config."
            )

    def tags_in(self, languages: Languages) -> tuple[str, ...]:
        """One for whichever language, and one for each where they are asked for."""
        if "decoder" not in self.heads:
            return ()
        spoken = languages.spoken if self.language_tags else ()
        return tuple(tag_of(self.name, language) for language in ("", *spoken))

    @property
    def heads(self) -> frozenset[str]:
        """CTC and decoder, as far as they have a share."""
        if not self.weight:
            return frozenset()
        shares = {"ctc": self.ctc_weight, "decoder": 1.0 - self.ctc_weight}
        return frozenset(head for head, share in shares.items() if share > 0)

    @property
    def gives(self) -> frozenset[str]:
        """Where the decoder attends to, if it is trained."""
        return frozenset({LOG_ATTENTION} if "decoder" in self.heads else ())

    @property
    def views(self) -> int:
        """Two where they are made consistent."""
        return 2 if self.consistency_weight else 1

    @property
    def reads_middle(self) -> bool:
        """For the CTC that is computed there."""
        return bool("ctc" in self.heads and self.intermediate_weight)

    def steady(self, step: int) -> bool:
        """Always."""
        del step
        return True

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses:
        """CTC and attention, as far as trained, nats per token."""
        losses: dict[str, Tensor] = {}
        given: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        total = step.encoding.encoded.new_zeros(())
        if "ctc" in self.heads:
            losses, ctc = self._ctc(step)
            total = total + self.ctc_weight * ctc
        if "decoder" in self.heads:
            batch = step.batch
            decoded = step.model.decode(
                batch.tokens,
                step.encoding,
                tags_of(step),
                with_attention=LOG_ATTENTION in step.wanted,
            )
            attention = attention_loss(
                decoded.logits,
                batch.tokens,
                batch.token_lengths,
                eos=EOS,
                label_smoothing=self.label_smoothing,
            )
            losses["loss_attention"] = step.mean(attention, (batch.token_lengths + 1).sum())
            total = total + (1.0 - self.ctc_weight) * losses["loss_attention"]
            if decoded.log_attention is not None:
                given[LOG_ATTENTION] = decoded.log_attention
            known = _spoken_languages(step)
            if self.language_tags and known is not None:
                loss = self._language_loss(step, known)
                losses["loss_language"] = loss
                counts["loss_language"] = step.count((known >= 0).sum())
                total = total + (1.0 - self.ctc_weight) * self.language_weight * loss
        return TaskLosses(losses, total, given, counts)

    def _language_loss(self, step: Step, known: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy of the languages that are spoken, nats per utterance whose language is known."""
        count = (known >= 0).sum()
        logits = step.model.language_logits(step.encoding)
        summed = F.cross_entropy(logits, known, ignore_index=-1, reduction="sum")
        return step.mean(summed / count.clamp(min=1), count)

    def _ctc(self, step: Step) -> tuple[dict[str, Float[Tensor, ""]], Float[Tensor, ""]]:
        """CTC at one or two heights and its consistency; and their weighted sum."""
        batch, lengths = step.batch, step.encoding.enc_lengths
        possible = ctc_frames_needed(batch.tokens, batch.token_lengths) <= lengths
        count = (batch.token_lengths * possible).sum()
        log_probs = step.model.ctc_log_probs(step.encoding)
        ctc = step.mean(ctc_loss(log_probs, lengths, batch.tokens, batch.token_lengths), count)
        losses = {"loss_ctc": ctc}
        if self.intermediate_weight:
            middle = step.model.ctc_log_probs(step.encoding, middle=True)
            losses["loss_ctc_middle"] = step.mean(
                ctc_loss(middle, lengths, batch.tokens, batch.token_lengths), count
            )
            ctc = torch.lerp(ctc, losses["loss_ctc_middle"], self.intermediate_weight)
        if self.consistency_weight and step.training:
            consistency = consistency_loss(log_probs, lengths, batch.token_lengths)
            losses["loss_consistency"] = step.mean(consistency, batch.token_lengths.sum())
            ctc = ctc + self.consistency_weight * losses["loss_consistency"]
        return losses, ctc

    def measure(self, step: Step) -> dict[str, tuple[float, float]]:
        """Word errors of a greedy search, and words of the references."""
        options = SearchOptions(decoder="ctc" if "ctc" in self.heads else "attention")
        found = search(step.model, step.encoding, options, tag=tags_of(step))
        texts = [step.tokenizer.decode(best.tokens) for best, *_ in found]
        normalizer = step.tokenizer.normalizer
        counts = count_errors([normalize(text, normalizer) for text in step.batch.texts], texts)
        errors = counts.substitutions + counts.deletions + counts.insertions
        words = counts.hits + counts.substitutions + counts.deletions
        measured = {"wer": (float(errors), float(words))}
        known = _spoken_languages(step) if self.language_tags else None
        if known is not None:
            wrong = (step.model.language_logits(step.encoding).argmax(dim=1) != known)[known >= 0]
            measured["language_errors"] = (float(wrong.sum()), float(len(wrong)))
        return measured


def tags_of(step: Step) -> Tag:
    """What is asked of the decoder: the language of each row, or whichever it is where nobody knows."""
    if step.batch.languages is None:
        return "asr"
    first = step.model.decoder.tags_of("asr").start  # before it stands the tag of no language
    return step.batch.languages + first


def _spoken_languages(step: Step) -> Int[Tensor, " batch"] | None:
    """The languages of rows with words, -1 where they are not to be told; None where nobody asks."""
    languages = step.batch.languages
    return None if languages is None else languages.masked_fill(step.batch.token_lengths == 0, -1)

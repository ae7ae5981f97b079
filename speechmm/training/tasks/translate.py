"""Trains speech to text in other languages: cross-entropy on the decoder, asked by the language's tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.data.batch import Translations
from speechmm.data.translated import Languages
from speechmm.errors import ConfigError
from speechmm.models.front_end import length_mask
from speechmm.models.losses import attention_loss
from speechmm.text.languages import tag_of
from speechmm.text.tokenizer import EOS
from speechmm.training.tasks.task import Metric, Step, Task, TaskLosses
from speechmm.training.tasks.text import untouched

LOSS = "loss_translate"


@dataclass(frozen=True, kw_only=True)
class Translate(Task):
    """Speech to what it says in another language, by the decoder alone: translations are not monotonic.

    Rows without a translation have no part in it. Source: Radford et al. 2022, "Whisper" (2212.04356),
    whose decoder is told by its first tokens to transcribe or to translate.
    """

    name: ClassVar[str] = "translate"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="translation_errors",
            text="translation tokens {:.1f} % wrong",
            scale=100.0,
            selects=True,
        ),
    )

    weight: float = 0.0
    """Weight of the task (nats per token); 0 switches it off."""
    label_smoothing: float = 0.1
    """Share of probability the decoder's targets spread over the whole vocabulary."""

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0.0 <= self.label_smoothing <= 1.0:
            raise ConfigError(
                f"model.tasks.translate: weight is {self.weight}, label_smoothing {self.label_smoothing}; "
                "expected no negative weight, and 0 to 1. Correct the config."
            )

    @property
    def heads(self) -> frozenset[str]:
        """The decoder."""
        return frozenset({"decoder"} if self.weight else ())

    def tags_in(self, languages: Languages) -> tuple[str, ...]:
        """One for each language of translations."""
        return tuple(tag_of(self.name, language) for language in languages.targets)

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses:
        """Cross-entropy of the translations, nats per token."""
        targets = step.batch.translations
        if targets is None:  # other processes may have some
            unused = untouched(step.model.decoder)
            none = torch.zeros((), device=unused.device)
            loss = step.mean(unused.detach(), none)
            return TaskLosses({LOSS: loss}, unused, counts={LOSS: step.count(none)})
        loss = attention_loss(
            _logits(step, targets),
            targets.tokens,
            targets.token_lengths,
            eos=EOS,
            label_smoothing=self.label_smoothing,
        )
        count = (targets.token_lengths + 1).sum()
        loss = step.mean(loss, count)
        return TaskLosses({LOSS: loss}, loss, counts={LOSS: step.count(count)})

    def measure(self, step: Step) -> dict[str, tuple[float, float]]:
        """Tokens that are not the likeliest after the right ones before them, and all tokens."""
        targets = step.batch.translations
        if targets is None:
            return {}
        likeliest = _logits(step, targets).argmax(dim=-1)
        lengths, longest = targets.token_lengths, targets.tokens.shape[1] + 1
        wanted = torch.nn.functional.pad(targets.tokens, (0, 1))
        wanted = wanted.scatter(1, lengths[:, None], EOS)
        valid = length_mask(lengths + 1, longest)
        wrong = ((likeliest != wanted) & valid).sum()
        return {"translation_errors": (float(wrong), float(valid.sum()))}


def _logits(
    step: Step, targets: Translations
) -> Float[Tensor, "translations positions vocab_size"]:
    """Of the tokens of each translation after its language's tag and the tokens before them."""
    tags = targets.languages + step.model.decoder.tags_of("translate").start
    return step.model.decode(targets.tokens, step.encoding.select(targets.rows), tags).logits

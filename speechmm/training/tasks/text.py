"""Trains on texts without audio: stretched in time and masked, through the encoder to themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from speechmm.data.batch import UnpairedTexts
from speechmm.errors import ConfigError
from speechmm.models.losses import attention_loss, ctc_loss
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.text_encoding import encode_stretched
from speechmm.models.text_front_end import TextFrontEnd, mask_units
from speechmm.text.tokenizer import EOS, SIL
from speechmm.training.tasks.align import OCCUPANCY
from speechmm.training.tasks.task import Step, Task, TaskLosses

TEXT_FRONT_END = "text_front_end"
"""Among the model's heads while it is trained: vectors of tokens, and how long they last."""


def text_front_end(model: SpeechTextModel) -> TextFrontEnd:
    """The one that the tasks of a training share."""
    if model.voice is not None:
        return model.voice.text
    return cast(TextFrontEnd, model.heads[TEXT_FRONT_END])


def make_text_front_end(model: SpeechTextModel, task: str) -> dict[str, nn.Module]:
    """A text front end, unless another task has made it.

    Raises:
        ConfigError: The model's encoder takes audio only.
    """
    model.check_second_entrance(f"model.tasks.{task}")
    if TEXT_FRONT_END in model.heads or model.voice is not None:
        return {}
    return {TEXT_FRONT_END: TextFrontEnd(model.align_vocab_size, model.encoder.width)}


@dataclass(frozen=True, kw_only=True)
class Text(Task):
    """Texts without audio, through the encoder to CTC and the decoder.

    A text's aligned tokens last as long as they do in speech, by statistics of the alignments of this
    training; runs of them are masked, so that nothing can be copied there. Sources: Sainath et al. 2022,
    "JOIST"; Chen et al. 2022, "MAESTRO".
    """

    name: ClassVar[str] = "text"
    reads: ClassVar[frozenset[str]] = frozenset({OCCUPANCY})
    unpaired: ClassVar[bool] = True

    weight: float = 0.0
    """Weight of the task (nats per token of ``data.text``); 0 switches it off."""
    ctc_weight: float = 0.3
    """Share of CTC in the task; the rest is the decoder's cross-entropy."""
    mask_share: float = 0.3
    """Share of a text's aligned tokens that are masked."""
    mask_tokens: int = 4
    """Aligned tokens masked together, silences between words included."""
    label_smoothing: float = 0.1
    """Share of probability the decoder's targets spread over the whole vocabulary."""
    after_steps: int = 0
    """Optimiser steps before the task begins."""

    def __post_init__(self) -> None:
        shares = (self.ctc_weight, self.label_smoothing)
        if any(not 0.0 <= share <= 1.0 for share in shares) or not 0.0 <= self.mask_share < 1.0:
            raise ConfigError(
                f"model.tasks.text: ctc_weight, label_smoothing are {shares}, mask_share "
                f"{self.mask_share}; expected 0 to 1 each, the last one below 1. Correct the config."
            )
        if self.weight < 0 or self.mask_tokens < 1 or self.after_steps < 0:
            raise ConfigError(
                f"model.tasks.text: weight is {self.weight}, mask_tokens {self.mask_tokens}, after_steps "
                f"{self.after_steps}; expected a token or more and nothing negative. Correct the config."
            )

    @property
    def requires(self) -> frozenset[str]:
        """The alignment head, which tells durations; CTC and decoder, as far as they have a share."""
        shares = {"ctc": self.ctc_weight, "decoder": 1.0 - self.ctc_weight}
        return frozenset({"align", *(head for head, share in shares.items() if share > 0)})

    @property
    def borrowed_tags(self) -> frozenset[str]:
        """That of recognition, where the decoder writes the texts."""
        return frozenset({"asr"} if self.ctc_weight < 1 else ())

    def make_heads(self, model: SpeechTextModel) -> dict[str, nn.Module]:
        """The front end of text."""
        return make_text_front_end(model, self.name)

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses | None:
        """CTC and attention on unpaired texts, nats per token; in training only."""
        if not step.training:
            return None
        front_end, batch = text_front_end(step.model), step.batch
        heard = front_end.durations.summary(
            shared[OCCUPANCY].sum(dim=1), batch.align_tokens, batch.align_lengths
        )
        front_end.durations.learn(step.sum(heard))
        if batch.unpaired is None or step.number < self.after_steps:
            return TaskLosses({}, untouched(front_end))
        texts = batch.unpaired
        encoding = self._encode(step, texts)
        losses: dict[str, Tensor] = {}
        total = encoding.encoded.new_zeros(())
        if self.ctc_weight:
            loss = ctc_loss(
                step.model.ctc_log_probs(encoding),
                encoding.enc_lengths,
                texts.tokens,
                texts.token_lengths,
            )
            losses["loss_text_ctc"] = step.mean(loss, texts.token_lengths.sum())
            total = total + self.ctc_weight * losses["loss_text_ctc"]
        if self.ctc_weight < 1:
            loss = attention_loss(
                step.model.decode(texts.tokens, encoding, _written_by(step.model)).logits,
                texts.tokens,
                texts.token_lengths,
                eos=EOS,
                label_smoothing=self.label_smoothing,
            )
            losses["loss_text_attention"] = step.mean(loss, (texts.token_lengths + 1).sum())
            total = total + (1.0 - self.ctc_weight) * losses["loss_text_attention"]
        return TaskLosses(losses, total)

    def _encode(self, step: Step, texts: UnpairedTexts) -> SpeechEncoding:
        """The texts, stretched at random and masked, as the encoder gives them."""
        front_end = text_front_end(step.model)
        tokens, lengths = texts.align_tokens, texts.align_lengths
        durations = front_end.durations.sample(tokens, lengths, tokens == SIL)
        masked = mask_units(lengths, tokens.shape[1], share=self.mask_share, run=self.mask_tokens)
        return encode_stretched(
            step.model,
            front_end,
            tokens,
            durations,
            texts.frame_lengths,
            longest=texts.longest,
            factor=step.model.subsampling,
            masked=masked,
        )


def _written_by(model: SpeechTextModel) -> str:
    """The tag that recognition writes by: that of its language, where it has one alone.

    Texts name no language. Of several languages none is asked for.
    """
    places = model.decoder.tags_of("asr")
    return model.decoder.names[places.start] if len(places) == 1 else "asr"


def untouched(module: nn.Module) -> Float[Tensor, ""]:
    """Zero, as a function of all weights: processes that train together wait for every gradient."""
    zero: Tensor = torch.stack([0.0 * weight.sum() for weight in module.parameters()]).sum()
    return zero

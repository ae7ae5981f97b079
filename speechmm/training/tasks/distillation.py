"""Trains a model on what another one says of the same speech: its CTC, its decoder and its alignments.

Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.errors import ConfigError
from speechmm.models.bundle import Bundle, load_bundle
from speechmm.models.front_end import length_mask
from speechmm.models.precision import at_least_float32
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.text_decoder import Tag
from speechmm.training.constants import constant
from speechmm.training.tasks.asr import tags_of
from speechmm.training.tasks.task import Step, Task, TaskLosses

BLANK = 0


@dataclass(frozen=True, kw_only=True)
class Distillation(Task):
    """A teacher's distributions, frame by frame and token by token, beside what the texts say.

    The teacher hears every utterance without added noise, change of voice and masks, the student with
    them. What ``augmentation.silence`` adds, pauses and noise alone, and the tempo are the same for both.
    The teacher is no part of checkpoints or bundles.
    """

    name: ClassVar[str] = "distillation"
    synthetic: ClassVar[bool] = False

    teacher: str | None = None
    """Bundle that teaches; null for none. It has the student's tokenizer and features."""
    weight: float = 1.0
    """Weight of the divergence from the teacher: the mean of those of CTC, decoder and alignment, as far
    as both models have them; 0 switches it off."""
    temperature: float = 1.0
    """By which logarithms of probabilities are divided before they are compared: above 1 what is
    unlikely counts for more."""

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0 < self.temperature < float("inf"):
            raise ConfigError(
                f"model.tasks.distillation: weight is {self.weight}, temperature {self.temperature}; "
                "expected no negative weight, and a temperature above 0. Correct the config."
            )

    @property
    def is_on(self) -> bool:
        """Where there is a teacher."""
        return bool(self.weight and self.teacher)

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses | None:
        """Divergences from the teacher, nats per frame or token; in training only."""
        del shared
        if not step.training:
            return None
        teacher, batch = self._teacher_of(step), step.batch
        assert step.recorded is not None
        with torch.no_grad():
            taught = teacher.encode_speech(
                step.recorded.float(), batch.feature_lengths, batch.waveforms
            )
        parts: dict[str, Tensor] = {}
        both = [head for head in teacher.heads if head in step.model.heads]
        if "ctc" in both:
            parts["teacher_ctc"] = self._ctc(step, teacher, taught)
        if "decoder" in both:
            parts["teacher_decoder"] = self._decoder(step, teacher, taught)
        if "align" in both:
            with torch.no_grad():
                target = teacher.align_log_probs(taught)
            said = step.model.align_log_probs(step.encoding)
            target = F.pad(target, (0, 0, 0, said.shape[1] - target.shape[1]))  # for few shapes
            valid = length_mask(step.encoding.lengths, said.shape[1])
            parts["teacher_align"] = self._divergence(step, said, target, valid)
        total = torch.stack(list(parts.values())).mean()
        return TaskLosses({f"loss_{name}": value for name, value in parts.items()}, total)

    def _ctc(self, step: Step, teacher: SpeechTextModel, taught: SpeechEncoding) -> Tensor:
        said = step.model.ctc_log_probs(step.encoding)
        with torch.no_grad():
            target = at_other_rate(
                teacher.ctc_log_probs(taught),
                taught.enc_lengths,
                said.shape[1],
                teacher.subsampling,
                step.model.subsampling,
            )
        return self._divergence(step, said, target, step.encoding.mask)

    def _decoder(self, step: Step, teacher: SpeechTextModel, taught: SpeechEncoding) -> Tensor:
        tokens, lengths = step.batch.tokens, step.batch.token_lengths
        with torch.no_grad():
            logits = teacher.decode(tokens, taught, asked_of_teacher(step, teacher, taught)).logits
            target = at_least_float32(logits).log_softmax(dim=-1)
        logits = step.model.decode(tokens, step.encoding, tags_of(step)).logits
        said = at_least_float32(logits).log_softmax(dim=-1)
        return self._divergence(step, said, target, length_mask(lengths + 1, said.shape[1]))

    def _divergence(
        self,
        step: Step,
        said: Float[Tensor, "batch positions vocab"],
        target: Float[Tensor, "batch positions vocab"],
        valid: Bool[Tensor, "batch positions"],
    ) -> Float[Tensor, ""]:
        """Kullback-Leibler divergence of the student from the teacher, a mean over valid positions.

        Times the square of the temperature, so that gradients keep their size (Hinton et al., section 2).
        """
        heat = self.temperature
        if heat != 1.0:
            said, target = (said / heat).log_softmax(dim=-1), (target / heat).log_softmax(dim=-1)
        divergence = F.kl_div(said, target, reduction="none", log_target=True).sum(dim=-1)
        count = valid.sum()
        total = (divergence * valid).sum() * heat**2
        return step.mean(total / count.clamp(min=1), count)

    def _teacher_of(self, step: Step) -> SpeechTextModel:
        """The teacher of a student, on its device, in float32; read when it is first asked for.

        Raises:
            CheckpointError: There is no such bundle, or it is damaged.
            ConfigError: It cannot teach this student.
        """
        known = _TEACHERS.get(step.model)
        if known is None:
            assert self.teacher is not None
            with torch.random.fork_rng(devices=[]):  # else a resumed training would draw otherwise
                bundle = load_bundle(Path(self.teacher))
            check_teacher(bundle, step)
            known = bundle.model.eval().requires_grad_(False).to(step.encoding.encoded.device)
            _TEACHERS[step.model] = known
        return known


def asked_of_teacher(step: Step, teacher: SpeechTextModel, taught: SpeechEncoding) -> Tag:
    """What the teacher's decoder is asked for: it writes well only where it has learned to.

    Of a teacher that has languages, the one of each row; where nobody says it, or the teacher does not
    know it, the one that the teacher hears.
    """
    places = teacher.decoder.tags_of("asr")
    if not places:
        return "asr"
    heard = teacher.language_logits(taught).argmax(dim=1) + places.start
    tags = tags_of(step)
    if isinstance(tags, str):
        return heard
    theirs = teacher.decoder.names
    known = [
        theirs.index(name) if name in theirs and name != "asr" else -1
        for name in step.model.decoder.names
    ]
    asked = constant(tuple(known), tags.device)[tags]
    return torch.where(asked < 0, heard, asked)


_TEACHERS: WeakKeyDictionary[SpeechTextModel, SpeechTextModel] = WeakKeyDictionary()
"""By their students, so that they are part of no model, checkpoint or bundle."""


def check_teacher(bundle: Bundle, step: Step) -> None:
    """Refuses a teacher that cannot teach a student.

    Raises:
        ConfigError: Another tokenizer, other features, a waveform that is not there, or no head in common.
    """
    where = f"model.tasks.distillation.teacher: {bundle.path}"
    own, theirs = step.tokenizer, bundle.tokenizer
    if (own.pieces, own.align_pieces) != (theirs.pieces, theirs.align_pieces):
        raise ConfigError(
            f"{where} writes {theirs.vocab_size} pieces, the student {own.vocab_size}, and not the same; "
            "expected the teacher's tokenizer. Set data.tokenizer to the bundle's tokenizer.json."
        )
    if bundle.features != step.log_mel:
        raise ConfigError(
            f"{where} reads {bundle.features}, the student {step.log_mel}; expected the same features. "
            "Leave data.features out of the config."
        )
    if bundle.model.reads_waveforms and step.batch.waveforms is None:
        raise ConfigError(
            f"{where} reads waveforms and the student does not, or has its frames stored; expected a "
            "teacher of log-mel features, or a student of waveforms. Choose another teacher."
        )
    if not bundle.heads & set(step.model.heads):
        raise ConfigError(
            f"{where} has the heads {', '.join(sorted(bundle.heads))}, and the student none of them; "
            "expected one in common. Train it on the same tasks."
        )


def at_other_rate(
    log_probs: Float[Tensor, "batch frames vocab"],
    lengths: Int[Tensor, " batch"],
    wanted: int,
    step: int,
    wanted_step: int,
) -> Float[Tensor, "batch wanted_frames vocab"]:
    """CTC distributions at another frame rate.

    At a lower one, a frame stands for several: it is blank if all of these are, and what else it says
    they share by their probabilities, so that no token is lost between two frames. At a higher one the
    nearest frame counts, and repeated tokens are one for CTC.

    Args:
        log_probs: One frame every ``step`` feature frames.
        lengths: Valid frames; what stands at others is made blank.
        wanted: Frames of the result.
        step: Feature frames per frame.
        wanted_step: The same of the result.
    """
    keep = length_mask(lengths, log_probs.shape[1])[:, :, None]
    silent = torch.full_like(log_probs[:1, :1], float("-inf"))
    silent[..., BLANK] = 0.0
    log_probs = torch.where(keep, log_probs, silent)
    merged = max(1, wanted_step // step)
    place = torch.arange(wanted, device=log_probs.device) * wanted_step
    if merged == 1:
        nearest = ((place + step // 2) // step).clamp(max=log_probs.shape[1] - 1)
        return _floored(log_probs[:, nearest].exp())
    first = place // step - (merged - 1) // 2
    index = (first[:, None] + torch.arange(merged, device=place.device)).clamp(min=0)
    more = max(0, int(index[-1, -1]) + 1 - log_probs.shape[1])
    padding = silent.expand(log_probs.shape[0], more, -1)
    frames = torch.cat([log_probs, padding], dim=1)[:, index].exp()
    blank = frames[..., BLANK].prod(dim=2)
    tokens = frames.sum(dim=2)
    tokens[..., BLANK] = 0.0
    share = tokens / tokens.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    joined = share * (1.0 - blank)[..., None]
    joined[..., BLANK] = blank
    return _floored(joined)


def _floored(probabilities: Tensor) -> Tensor:
    """Logarithms of distributions in which nothing is impossible: a divergence stays finite."""
    floored = probabilities.clamp(min=1e-8)
    return (floored / floored.sum(dim=-1, keepdim=True)).log()

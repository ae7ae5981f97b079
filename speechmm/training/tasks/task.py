"""Defines a training task: settings, losses, metrics and heads in one class.

Annotations are real objects here: the command line reads them where subclasses are defined.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch
from speechmm.data.translated import Languages
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.freezing import Freezing
from speechmm.training.processes import all_sum, mean_over_processes


@dataclass(frozen=True, kw_only=True)
class Step:
    """One batch as the tasks see it."""

    model: SpeechTextModel
    """In training or in evaluation mode."""
    batch: Batch
    encoding: SpeechEncoding
    """Of the speech of the batch, augmented while training."""
    tokenizer: Tokenizer
    log_mel: LogMelConfig
    recorded: Float[Tensor, "batch frames n_mels"] | None = None
    """Log-mel of the batch, not normalised, without masks, noise over speech and change of voice or level;
    with what ``augmentation.silence`` adds."""
    number: int = 0
    """Optimiser steps before this one."""
    wanted: frozenset[str] = frozenset()
    """What tasks read of each other in this step (:attr:`Task.reads`)."""

    freezing: Freezing | None = None
    """What keeps weights as they are, some of them until a later step."""

    def learns(self, part: nn.Module) -> bool:
        """Whether any weight of a part of the model learns in this step."""
        if self.freezing is not None:
            return self.freezing.learns(part, self.number)
        return any(weight.requires_grad for weight in part.parameters())

    @property
    def training(self) -> bool:
        """Whether weights are being trained, not measured."""
        return self.model.training

    def mean(self, mean: Float[Tensor, ""], count: Shaped[Tensor, ""]) -> Float[Tensor, ""]:
        """A mean over ``count`` tokens or frames of this process, made one over those of all processes."""
        return mean_over_processes(mean, count) if self.training else mean

    def sum(self, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """The sum over all processes, with gradient; while measuring, that of this one."""
        return all_sum(values) if self.training else values

    def count(self, count: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """What a loss that not every batch has is a mean over (:attr:`TaskLosses.counts`)."""
        return self.sum(count.float())  # which can be averaged over processes


@dataclass(frozen=True)
class TaskLosses:
    """What one task gives for a step."""

    losses: dict[str, Float[Tensor, ""]]
    """As logged, each ``train/loss_<name>``; per token or frame, so that batch size does not matter."""
    total: Float[Tensor, ""]
    """Their weighted sum, before the weight of the task."""
    shared: dict[str, Tensor] = field(default_factory=dict)
    """What later tasks may read, by name."""
    counts: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    """Of losses that not every batch has: how many items each is a mean over, by :meth:`Step.count`,
    which is what it weighs in the mean of an epoch. Others weigh as many utterances as the batch has."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A ratio of two sums over a data set, logged as ``val/<name>``."""

    name: str
    text: str
    """How it is shown, for example ``dev WER {:.1f} %``."""
    scale: float = 1.0
    """What the value is multiplied by to be shown."""
    selects: bool = False
    """Whether the best checkpoint is chosen by it; the lower the better."""


class Task:
    """Something a model is trained to do. A subclass is a frozen dataclass: its fields are settings.

    A weight of 0 switches a task off; heads that no active task trains are not built.
    """

    name: ClassVar[str]
    """In the config, in checkpoints, in messages."""
    tags: ClassVar[tuple[str, ...]] = ()
    """First inputs of the decoder, one for each kind of text the task writes."""
    metrics: ClassVar[tuple[Metric, ...]] = ()
    reads: ClassVar[frozenset[str]] = frozenset()
    """What it reads of the tasks before it (:attr:`TaskLosses.shared`)."""
    unpaired: ClassVar[bool] = False
    """Whether it reads texts without audio (``data.text``)."""
    synthetic: ClassVar[bool] = False
    """Whether it learns from synthetic speech (``data.mix``)."""
    weight: float
    """Of its total in the loss."""

    @property
    def heads(self) -> frozenset[str]:
        """Heads of the model (``speechmm.models.speech_text.ALL_HEADS``) that it trains."""
        return frozenset()

    @property
    def requires(self) -> frozenset[str]:
        """Heads that other tasks must train for this one to make sense."""
        return frozenset()

    @property
    def gives(self) -> frozenset[str]:
        """What it shares with later tasks that read it."""
        return frozenset()

    @property
    def is_on(self) -> bool:
        """Whether it takes part in the training."""
        return bool(self.weight)

    @property
    def reads_middle(self) -> bool:
        """Whether it reads what the encoder has half-way up (``Step.encoding.middle``)."""
        return False

    @property
    def views(self) -> int:
        """Differently masked copies of every utterance that a training step holds, 1 or 2."""
        return 1

    @property
    def borrowed_tags(self) -> frozenset[str]:
        """Tags of other tasks that it asks the decoder with."""
        return frozenset()

    def tags_in(self, languages: Languages) -> tuple[str, ...]:
        """Its tags where a training has these languages (``speechmm.text.languages.tag_of``)."""
        del languages
        return self.tags

    def steady(self, step: int) -> bool:
        """Whether its losses are the same function of the tensors of a batch from an optimiser step on.

        A recording may then repeat them (``model.compile graphs``): nothing else that the host knows
        about a step decides what is computed.
        """
        del step
        return False

    def make_heads(self, model: SpeechTextModel) -> dict[str, nn.Module]:
        """Auxiliary heads of its own, by name: trained and checkpointed, not part of a bundle."""
        del model
        return {}

    def losses(self, step: Step, shared: Mapping[str, Tensor]) -> TaskLosses | None:
        """The losses of a step; None where the task has nothing to say.

        Args:
            step: The batch and what the model made of it.
            shared: What the tasks before it gave.
        """
        raise NotImplementedError

    def measure(self, step: Step) -> dict[str, tuple[float, float]]:
        """Numerator and denominator of each metric, for one batch of a dev or test set."""
        del step
        return {}

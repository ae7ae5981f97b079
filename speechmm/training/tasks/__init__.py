"""Trains a model on tasks: each has a file with its settings, losses, metrics and heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from speechmm.data.translated import Languages
from speechmm.errors import ConfigError
from speechmm.models.speech_text import ALL_HEADS
from speechmm.training.processes import zero_of_all
from speechmm.training.tasks.align import Align
from speechmm.training.tasks.asr import Asr
from speechmm.training.tasks.distillation import Distillation
from speechmm.training.tasks.guided_attention import GuidedAttention
from speechmm.training.tasks.match import Match
from speechmm.training.tasks.task import Metric, Step, Task, TaskLosses
from speechmm.training.tasks.text import Text
from speechmm.training.tasks.translate import Translate
from speechmm.training.tasks.tts import Tts

__all__ = [
    "COUNT",
    "Align",
    "Asr",
    "Distillation",
    "GuidedAttention",
    "Match",
    "Metric",
    "Step",
    "Task",
    "TaskLosses",
    "TasksConfig",
    "Text",
    "Translate",
    "Tts",
    "counts_among",
    "sum_losses",
]

COUNT = "count of "
"""Before the name of a loss, in what tasks share: how many items it is a mean over."""


@dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """The tasks of a training; those with weight 0 are off."""

    asr: Asr = field(default_factory=Asr)
    """Speech to text."""
    align: Align = field(default_factory=Align)
    """Speech and text to a monotonic alignment."""
    guided_attention: GuidedAttention = field(default_factory=GuidedAttention)
    """The decoder attends where the alignment has its tokens."""
    text: Text = field(default_factory=Text)
    """Texts without audio, through the encoder to themselves."""
    match: Match = field(default_factory=Match)
    """Speech and its own text look alike half-way up the encoder."""
    tts: Tts = field(default_factory=Tts)
    """Text to speech, by the model's own alignment."""
    translate: Translate = field(default_factory=Translate)
    """Speech to text in other languages."""
    distillation: Distillation = field(default_factory=Distillation)
    """A model that is trained already teaches this one."""
    others: Sequence[Task] = ()
    """Tasks of your own: class_path and init_args (docs/adding-a-task.md)."""

    def __post_init__(self) -> None:
        if not any(task.heads for task in self.active):
            weights = {task.name: task.weight for task in self.all}
            raise ConfigError(
                f"model.tasks: the weights are {weights}; expected asr or align to be positive. "
                "Correct the config."
            )
        given: frozenset[str] = frozenset()
        for task in self.active:
            self._check(task, given)
            given |= task.gives

    def _check(self, task: Task, given: frozenset[str]) -> None:
        """Refuses a task that lacks what it works on; ``given`` is what earlier tasks share."""
        where = f"model.tasks: {task.name} has weight {task.weight}"
        if not task.requires <= self.heads:
            raise ConfigError(
                f"{where} and the heads that are trained are "
                f"{', '.join(head for head in ALL_HEADS if head in self.heads)}; expected "
                f"{' and '.join(sorted(task.requires))} to be trained, which it works on. "
                "Correct the config."
            )
        if not task.reads <= given:
            raise ConfigError(
                f"{where} and reads {', '.join(sorted(task.reads - given))}; expected an active task "
                "before it that gives this. Correct the config."
            )
        if not task.borrowed_tags <= frozenset(self.tags):
            raise ConfigError(
                f"{where} and asks the decoder as {', '.join(sorted(task.borrowed_tags))} does, which is "
                "not trained; expected that task to have a weight too. Correct the config."
            )
        if task.views not in (1, 2):
            raise ConfigError(
                f"{where} and wants {task.views} views of every utterance; expected 1 or 2. "
                "Correct the task."
            )

    @property
    def all(self) -> list[Task]:
        """Every task, in the order in which their losses are computed."""
        return [
            self.asr,
            self.align,
            self.guided_attention,
            self.text,
            self.match,
            self.tts,
            self.translate,
            self.distillation,
            *self.others,
        ]

    @property
    def active(self) -> list[Task]:
        """Those that take part."""
        return [task for task in self.all if task.is_on]

    @property
    def heads(self) -> frozenset[str]:
        """Heads of the model that are trained."""
        return frozenset().union(*(task.heads for task in self.active))

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the decoder, but for those of languages."""
        return self.tags_in(Languages())

    def tags_in(self, languages: Languages) -> tuple[str, ...]:
        """Tags of the decoder where a training has these languages."""
        return tuple(tag for task in self.active for tag in task.tags_in(languages))

    @property
    def views(self) -> int:
        """Copies of every utterance in a training step."""
        return max(task.views for task in self.active)

    @property
    def reads(self) -> frozenset[str]:
        """What tasks read of each other."""
        return frozenset().union(*(task.reads for task in self.active))

    @property
    def unpaired(self) -> bool:
        """Whether any reads texts without audio."""
        return any(task.unpaired for task in self.active)

    def settings(self) -> dict[str, Any]:
        """The settings of the active tasks, as plain values."""
        active: list[Any] = list(self.active)
        return {task.name: dataclasses.asdict(task) for task in active}


def sum_losses(
    tasks: TasksConfig, step: Step
) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Tensor]]:
    """Every loss of a step by name, ``loss`` being their weighted sum; and what tasks shared, and counts.

    Of synthetic speech, only tasks that learn from it have some.
    """
    losses: dict[str, Tensor] = {}
    shared: dict[str, Tensor] = {}
    total = step.encoding.encoded.new_zeros(())
    for task in tasks.active:
        if step.batch.synthetic and not task.synthetic:
            continue
        given = task.losses(step, shared)
        if given is None:
            continue
        losses |= given.losses
        shared |= given.shared
        shared |= {COUNT + name: count for name, count in given.counts.items()}
        total = total + task.weight * given.total
    if step.batch.synthetic and step.training:
        total = total + zero_of_all(step.model.parameters())
    losses["loss"] = total
    return losses, shared


def counts_among(shared: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of what was shared that are counts of losses."""
    return {name: value for name, value in shared.items() if name.startswith(COUNT)}

"""Reads settings by the names they had in earlier versions, each with a notice of today's name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from speechmm.files.yaml_text import peek_settings
from speechmm.training.tasks import Align, Asr, GuidedAttention, TasksConfig

logger = logging.getLogger(__name__)

_TASKS, _AUGMENTATION = "model.tasks", "model.augmentation"
_ASR = ("ctc_weight", "intermediate_weight", "consistency_weight", "label_smoothing")
_MASKS = ("time_masks", "time_mask_frames", "time_mask_multiplicity", "time_mask_share")
_NOISE_REVERB = (
    "noise_share",
    "noise_min_db",
    "noise_max_db",
    "reverb_share",
    "reverb_seconds",
)
RENAMED: dict[str, str] = {
    "model.network.utterance_mean": "model.network.utterance_cmn",
    "model.network.reach": "model.network.attention_window",
    "model.objectives.asr_weight": f"{_TASKS}.asr.weight",
    **{f"model.objectives.{name}": f"{_TASKS}.asr.{name}" for name in _ASR},
    "model.objectives.align_weight": f"{_TASKS}.align.weight",
    "model.objectives.align_warmup_steps": f"{_TASKS}.align.warmup_steps",
    "model.objectives.guidance_weight": f"{_TASKS}.guided_attention.weight",
    **{
        f"model.augment.{name}": f"{_AUGMENTATION}.spec_augment.{name}"
        for name in (*_MASKS, "freq_masks", "freq_mask_bins")
    },
    "model.augment.gain_db": f"{_AUGMENTATION}.features.gain_db",
    "model.augment.voice": f"{_AUGMENTATION}.features.vtlp",
    "model.augment.tempo": f"{_AUGMENTATION}.features.tempo",
    "model.augment.join_share": f"{_AUGMENTATION}.concatenation.share",
    "model.augment.join_most": f"{_AUGMENTATION}.concatenation.max_utterances",
    "model.augment.join_frames": f"{_AUGMENTATION}.concatenation.max_frames",
    **{f"model.room.{name}": f"{_AUGMENTATION}.noise_reverb.{name}" for name in _NOISE_REVERB},
    **{
        f"model.recombination.{name}": f"{_AUGMENTATION}.recombination.{name}"
        for name in ("share", "after_epochs", "run_words", "keep_gb")
    },
}
"""Names of version 0.1.0's predecessors; they go with version 0.3."""

REMOVED = {"model.room.frame_seconds"}
"""Settings that follow from others today; they are left out with a notice."""

_SECTIONS = {name.rpartition(".")[0] for name in RENAMED} - {"model.network"}


def upgrade_arguments(arguments: Sequence[str]) -> list[str]:
    """The same command line with today's names, in flags and in the files of ``--config``."""
    upgraded: list[str] = []
    previous = ""
    for argument in arguments:
        if previous == "--config":
            upgraded.append(_upgraded_file(argument))
        elif argument.startswith("--config="):
            upgraded.append("--config=" + _upgraded_file(argument.partition("=")[2]))
        else:
            upgraded += _upgraded_flag(argument)
        previous = argument
    return upgraded


def upgrade_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Nested settings with today's names; ``where`` names them in the notice."""
    found: dict[str, Any] = {}
    old: list[str] = []
    for name, value in _leaves(settings):
        if name in REMOVED:
            _tell_removed(where, name)
            continue
        if name in RENAMED:
            old.append(name)
        _set(found, RENAMED.get(name, name), value)
    _tell(where, old)
    return found


def _upgraded_flag(argument: str) -> list[str]:
    flag, equals, value = argument.partition("=")
    name = flag.removeprefix("--")
    if name in REMOVED and equals:
        _tell_removed("command line", name)
        return []
    if name in RENAMED:
        _tell("", [name])
        return [f"--{RENAMED[name]}{equals}{value}"]
    if name in _SECTIONS and equals:  # a whole section as one value
        with contextlib.suppress(yaml.YAMLError):
            section = yaml.safe_load(value)
            if isinstance(section, dict):
                return [
                    flag
                    for key, inner in section.items()
                    for flag in _upgraded_flag(f"--{name}.{key}={inner}")
                ]
    return [argument]


def _upgraded_file(file: str) -> str:
    """The name of a file, or its content with today's names where it has old ones."""
    settings = peek_settings(file)
    if not any(name in RENAMED or name in REMOVED for name, _ in _leaves(settings)):
        return file
    text: str = yaml.safe_dump(
        upgrade_settings(settings, file), allow_unicode=True, sort_keys=False
    )
    return text


def _tell(where: str, old: Sequence[str]) -> None:
    if not old:
        return
    names = ", ".join(f"{name} is now {RENAMED[name]}" for name in old)
    logger.warning(
        "%s%s; the old name works until version 0.3", f"{where}: " if where else "", names
    )


def _tell_removed(where: str, name: str) -> None:
    logger.warning("%s: %s is ignored: it follows from data.features today", where, name)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted name; a key may hold dots itself."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _set(settings: dict[str, Any], name: str, value: Any) -> None:
    *sections, last = name.split(".")
    for section in sections:
        inner = settings.setdefault(section, {})
        if not isinstance(inner, dict):  # a value and a section of one name: the parser complains
            return
        settings = inner
    settings[last] = value


def ObjectivesConfig(**settings: float) -> TasksConfig:  # noqa: N802 (the name of a former class)
    """The tasks, by the flat settings of before: ``ctc_weight``, ``align_weight``, ..."""
    upgraded = upgrade_settings(
        {f"model.objectives.{name}": value for name, value in settings.items()}, "ObjectivesConfig"
    )
    unknown = upgraded["model"].get("objectives") if upgraded else None
    if unknown:
        raise TypeError(f"ObjectivesConfig: there is no setting {', '.join(unknown)}")
    types = {"asr": Asr, "align": Align, "guided_attention": GuidedAttention}
    given = upgraded["model"]["tasks"] if upgraded else {}
    return TasksConfig(**{name: types[name](**values) for name, values in given.items()})


def tasks_by_old_name(renamed: Mapping[str, Any], tasks: TasksConfig) -> TasksConfig:
    """The tasks of ``JointModule(objectives=...)``, else those given.

    Raises:
        TypeError: There are other names.
    """
    for name in set(renamed) - {"objectives"}:
        now = {"augment", "room", "recombination"} & {name} and "it is part of augmentation today"
        raise TypeError(f"JointModule: there is no argument {name}{f'; {now}' if now else ''}")
    if "objectives" not in renamed:
        return tasks
    logger.warning("JointModule: objectives is now tasks; the old name works until version 0.3")
    objectives: TasksConfig = renamed["objectives"]
    return objectives

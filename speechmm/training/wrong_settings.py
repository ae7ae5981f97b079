"""Refuses settings that jsonargparse and Lightning let through: empty sections, null, divisions by 0."""

from __future__ import annotations

import math
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Mapping
from typing import Any, get_args

from jsonargparse import Namespace
from jsonargparse._actions import _ActionConfigLoad
from jsonargparse._link_arguments import ActionLink

from speechmm.errors import ConfigError

_DIVISORS = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")


def check_given(parser: ArgumentParser, config: Namespace) -> None:
    """Looks for sections that are no sections, null where a setting needs a value, and nan.

    Args:
        parser: Knows the settings and their types.
        config: What was parsed.

    Raises:
        ValueError: There is one; worded as jsonargparse does.
    """
    for action in parser._actions:
        if isinstance(action, ActionLink):
            continue
        if action.dest not in config:
            _refuse_a_lost_setting(action)
            continue
        value = config[action.dest]
        if isinstance(action, _ActionConfigLoad):
            if not isinstance(value, Namespace | Mapping):
                raise ValueError(
                    f'Parser key "{action.dest}": found {_shown(value)}; expected a section of '
                    "settings by their names. Fill it in, or leave it out"
                )
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f'Parser key "{action.dest}": found {value}; expected a finite number. Correct it'
            )
        elif value is None and action.default is not None and not _may_be_null(action):
            raise ValueError(
                f'Parser key "{action.dest}": found null; expected a value, such as '
                f"{action.default!r}. Give one, or leave the line out"
            )


def _refuse_a_lost_setting(action: Any) -> None:
    """A flag that follows a section which is none makes one in its place, of that setting alone.

    Raises:
        ValueError: The setting has a default that is not there.
    """
    section, _, name = action.dest.rpartition(".")
    if section and action.default != SUPPRESS:
        raise ValueError(
            f'Parser key "{section}": found no section, without {name}; expected a section of '
            "settings by their names. Fill it in, or leave it out"
        )


def check_divisors(trainer: Mapping[str, Any]) -> None:
    """Refuses numbers of steps or epochs by which Lightning would divide.

    Args:
        trainer: Settings of the trainer by their names.

    Raises:
        ConfigError: One of them is zero or less.
    """
    for name in _DIVISORS:
        value = trainer.get(name)
        if isinstance(value, int | float) and value <= 0:
            raise ConfigError(
                f"trainer.{name}: found {value}; expected more than 0. Correct the config."
            )


def _may_be_null(action: Any) -> bool:
    return type(None) in get_args(getattr(action, "_typehint", None))


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{value!r:.40}"

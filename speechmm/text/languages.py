"""Writes codes of languages alike, and names what is asked of a decoder in a language: its tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from speechmm.errors import ConfigError

TASKS = ("asr", "translate")
"""What a decoder is asked to write: what is said, or the same in another language."""
_CODE = re.compile(r"[^\W\d_]{2,}(-[^\W_]+)*")
_BETWEEN = ":"


def language_code(name: str) -> str:
    """A language as models name it: lower case, hyphens; ``en_US`` is ``en-us``, blanks alone are ""."""
    return "-".join(name.strip().casefold().replace("_", "-").split())


def is_language(name: str) -> bool:
    """Whether this can be a code or a name of a language: letters, and parts behind hyphens."""
    return bool(_CODE.fullmatch(language_code(name)))


def tag_of(task: str, language: str = "") -> str:
    """The decoder's first input for a task in a language: ``asr:de``; in whichever one: ``asr``.

    Args:
        task: Of ``TASKS``.
        language: Of what is written, as :func:`language_code` has it.
    """
    return f"{task}{_BETWEEN}{language}" if language else task


def tag_parts(tag: str) -> tuple[str, str]:
    """Task and language of a tag: ``asr:de``, ``asr``."""
    task, _, language = tag.partition(_BETWEEN)
    return task, language


def languages_of(task: str, tags: Iterable[str]) -> tuple[str, ...]:
    """The languages in which a decoder with these tags has learned a task, in their order."""
    begin = task + _BETWEEN
    return tuple(tag.removeprefix(begin) for tag in tags if tag.startswith(begin))


def known_language(name: str, known: Sequence[str], *, asked_by: str, learned: str) -> str:
    """The one of some languages that is meant.

    Args:
        name: As a user writes it.
        known: By their codes.
        asked_by: The flag or argument, for the message.
        learned: What is done in them, for the message.

    Raises:
        ConfigError: It is none of them.
    """
    code = language_code(name)
    if code in known:
        return code
    if not known:
        raise ConfigError(
            f"{asked_by}: found {name!r}; expected none, as the model was trained without languages. Leave "
            "it out."
        )
    raise ConfigError(
        f"{asked_by}: found {name!r}; expected one of {', '.join(known)}, {learned}. Choose one of these."
    )

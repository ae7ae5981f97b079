"""Parses the arguments of plain commands: one-line errors, no abbreviations, aliases of old flags."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse

from speechmm import __version__
from speechmm.errors import ConfigError
from speechmm.files.pipes import STDIN
from speechmm.files.protection import forget_inputs, protect, refuse_input

OUTPUTS = ("out", "results", "pictures", "times", "save", "manifest", "report")
"""Names of arguments that say where something is written."""
OLD_NAMES = "old names that still work:"
"""Title of the list at the end of a help text: ``  --old is now --new``."""
_CLASS = re.compile(r"<class\s+'(?:\w+\.)*(\w+)'>")
_NAMED_DEFAULT = re.compile(r" \(default: (.+)\)$")
"""How the help of a flag ends whose default is not the parser's, so that it is known if it is given."""
_REWORDED = (
    (r"^Expected an? (.*)\. Got value: (.*)$", r"found '\2'; expected \1"),
    (
        r"^Not of type (\w+): (?:invalid literal|could not convert).*: '(.*)'$",
        r"found '\2'; expected \1",
    ),
    (r"^Not of type \w+: (.*) does not conform to restriction (.*)$", r"found '\1'; expected \2"),
    (
        r"^argument (\S+): invalid choice: (.*) \(choose from (.*)\)$",
        r"\1: found \2; expected one of \3",
    ),
)
"""What jsonargparse says, and how it is said here: where: found; expected."""


class _HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Shows the default that a help text names in place of the parser's, which is then None."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = str(super()._get_help_string(action))
        named = _NAMED_DEFAULT.search(action.help or "")
        if named is None:
            return text
        return text.replace(named[0], "", 1).replace("%(default)s", named[1])


class CommandParser(jsonargparse.ArgumentParser):
    """Parser of one command, e.g. ``CommandParser("align", description="...")``.

    Types and defaults are added to every help line by jsonargparse; units are the caller's to name.
    A wrong argument raises `ConfigError`: ``cli/main.py`` makes it one line and exit code 2.
    """

    def __init__(self, command: str, *, description: str) -> None:
        super().__init__(
            prog=f"speechmm {command}",
            description=description,
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
        )
        self._aliases: dict[str, str] = {}
        self.updated: tuple[str, ...] = ()
        """Names of arguments that are read and written."""
        self.add_argument(
            "--version",
            action="version",
            version=f"speechmm {__version__}",
            help="Print the version.",
        )

    def add_alias(self, old: str, new: str) -> None:
        """Lets a flag that was renamed work under its old name, with a notice of one line on stderr.

        Args:
            old: As users may still type it, e.g. ``--doubt-price``.
            new: As it is added to this parser, e.g. ``--edit-penalty``.
        """
        self._aliases[old] = new

    def parse_args(self, *args: Any, **settings: Any) -> Any:
        """Parses a list of arguments in which flags may still have their old names."""
        if args:
            args = (self._renamed(args[0]), *args[1:])
            self._refuse_empty(args[0])
        parsed = super().parse_args(*args, **settings)
        self._check_paths(parsed)
        return parsed

    def _refuse_empty(self, args: Sequence[str]) -> None:
        """Refuses "" for a path, which is mostly a shell variable that is not set."""
        for place, argument in enumerate(args):
            flag, equals, value = argument.partition("=")
            if argument and (value or not equals or not flag.startswith("--")):
                continue
            flag = flag if equals else args[place - 1] if place else ""
            action = self._option_string_actions.get(flag)
            if action is None or getattr(action, "_typehint", action.type) is Path:
                name = flag if action is not None else "an argument"
                raise ConfigError(
                    f"{name}: is empty; expected a path. Is a shell variable not set? "
                    f"Run '{self.prog} --help'."
                )

    def _check_paths(self, parsed: Any) -> None:
        """Protects what is read, and refuses outputs that would overwrite it or one another.

        Raises:
            ConfigError: An output is an input, a recording, or another output.
        """
        forget_inputs()
        values = {name: value for name, value in vars(parsed).items() if name not in self.updated}
        outputs = {name: value for name, value in values.items() if name in OUTPUTS and value}
        read = [value for name, value in values.items() if name not in OUTPUTS]
        read = [one for value in read for one in (value if isinstance(value, list) else [value])]
        read = [one for one in read if isinstance(one, Path | str) and one]
        if sum(str(one) == STDIN for one in read) > 1:
            raise ConfigError(
                f'"{STDIN}": is given twice; expected standard input for one input alone. Name a file.'
            )
        protect(map(Path, read))
        seen: dict[str, str] = {}
        for name, value in outputs.items():
            path = Path(value)
            refuse_input(path)
            place = os.path.realpath(path)
            if path.exists() and not path.is_file() and not path.is_dir():
                continue  # devices take several outputs
            if place in seen:
                raise ConfigError(
                    f"--{name}: {path} is --{seen[place]} already; expected another file. Name two."
                )
            seen[place] = name

    def _renamed(self, args: Sequence[str]) -> list[str]:
        """The arguments with the new names of flags; what follows a bare ``--`` is no flag."""
        renamed = list(args)
        for place, argument in enumerate(args):
            if argument == "--":
                break
            flag, equals, value = argument.partition("=")
            if flag in self._aliases:
                new = self._aliases[flag]
                print(f"{self.prog}: {flag} is now called {new}; use that.", file=sys.stderr)
                renamed[place] = f"{new}{equals}{value}"
        return renamed

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the parser's complaint as one line that says where to look the flags up."""
        refuse(self, message, ex)

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """The help text with types by their names (``Path`` for ``<class 'Path'>``) and old flags."""
        text = _CLASS.sub(r"\1", super().format_help(formatter))
        if not self._aliases:
            return text
        rows = [f"  {old} is now {new}" for old, new in self._aliases.items()]
        return "\n".join([f"{text.rstrip()}\n", OLD_NAMES, *rows, ""])


def refuse(
    parser: argparse.ArgumentParser, message: str, cause: Exception | None = None
) -> NoReturn:
    """Raise what a jsonargparse parser complains of as a `ConfigError` of one line.

    A wrong value is named by its flag, an unknown flag is answered with the closest known one.
    """
    wrong_value = re.match(r'Parser key "([^"]+)":\s+(.*)', message, re.DOTALL)
    unknown = re.match(r"unrecognized arguments: (\S+)", message, re.IGNORECASE)
    if wrong_value:
        line = f"{_flag(parser, wrong_value[1])}: {_in_one_line(wrong_value[2])}"
    elif unknown:
        line = f"{_in_one_line(message)}{_closest_flag(parser, unknown[1])}"
    else:
        line = _in_one_line(message)
    raise ConfigError(f"{line}. Run '{parser.prog} --help'.") from cause


def _flag(parser: argparse.ArgumentParser, key: str) -> str:
    """``batch_seconds`` as the user types it: ``--batch-seconds``."""
    for action in parser._actions:
        if action.dest == key and action.option_strings:
            return action.option_strings[-1]
    return key


def _closest_flag(parser: argparse.ArgumentParser, typed: str) -> str:
    flags = [flag for action in parser._actions for flag in action.option_strings]
    close = difflib.get_close_matches(typed.partition("=")[0], flags, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _in_one_line(message: str) -> str:
    message = " ".join(_CLASS.sub(r"\1", message).split()).rstrip(".")
    for theirs, ours in _REWORDED:
        message = re.sub(theirs, ours, message)
    return message

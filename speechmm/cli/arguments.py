"""The argument parser every plain command uses: one-line errors, no abbreviated flags."""

import difflib
import re
from typing import NoReturn

import jsonargparse

from speechmm import __version__
from speechmm.errors import ConfigError


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
        )
        self.add_argument(
            "--version",
            action="version",
            version=f"speechmm {__version__}",
            help="Print the version.",
        )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the parser's complaint as one line that says where to look the flags up."""
        raise ConfigError(f"{self._in_one_line(message)}. Run '{self.prog} --help'.") from ex

    def _in_one_line(self, message: str) -> str:
        wrong_value = re.match(r'Parser key "([^"]+)":\s+(.*)', message, re.DOTALL)
        if wrong_value:
            return f"{self._flag(wrong_value[1])}: {_tidy(wrong_value[2])}"
        unknown = re.match(r"unrecognized arguments: (\S+)", message, re.IGNORECASE)
        if unknown:
            return f"{_tidy(message)}{self._closest_flag(unknown[1])}"
        return _tidy(message)

    def _flag(self, key: str) -> str:
        """``batch_seconds`` as the user types it: ``--batch-seconds``."""
        for action in self._actions:
            if action.dest == key and action.option_strings:
                return action.option_strings[-1]
        return key

    def _closest_flag(self, typed: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings]
        close = difflib.get_close_matches(typed.partition("=")[0], flags, n=1)
        return f" (did you mean {close[0]}?)" if close else ""


def _tidy(message: str) -> str:
    message = re.sub(r"Expected a <class '(?:\w+\.)*(\w+)'>", r"expected \1", message)
    return " ".join(message.split()).rstrip(".")

"""Names and counts what a command leaves out."""

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypedDict

from speechmm.errors import ManifestError, SpeechmmError

logger = logging.getLogger(__name__)


def named_failure(item: str, error: Exception) -> SpeechmmError:
    """What ended the work on one input, as an error of one line that names it.

    An exception nobody foresaw keeps its type and message, and its traceback goes to the log at level
    DEBUG.

    Raises:
        MemoryError: That is what it is: the next input would fare no better.
    """
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, SpeechmmError):
        return error
    if isinstance(error, OSError) and error.strerror:  # a name that is too long, a disk that fails
        return ManifestError(
            f"{item}: cannot be read ({error.strerror}); expected names and files that the system "
            "can read. Check them."
        )
    logger.debug("%s:", item, exc_info=error)
    message = " ".join(str(error).split())
    return ManifestError(
        f"{item}: cannot be processed ({type(error).__name__}: {message}); expected an ordinary "
        "input. If it is one, this is a bug: report it with this line."
    )


class SkippedItem(TypedDict):
    """What was left out, as JSON files have it."""

    item: str
    reason: str


@dataclass
class SkipReport:
    """What was left out and why; a command that left something out ends with exit code 3."""

    strict: bool = False
    """Raise at the first bad item instead of noting it."""
    items: list[tuple[str, str]] = field(default_factory=list)
    """(item, reason) in the order they were met."""
    remarks: list[str] = field(default_factory=list)
    """What else a user should know of the result, such as which splits were drawn."""

    def remark(self, text: str) -> None:
        """Say something at once, and keep it for the record."""
        logger.info("%s", text)
        self.remarks.append(text)

    def add(self, item: str, reason: str | SpeechmmError) -> None:
        """Note a bad item.

        Raises:
            SpeechmmError: ``strict`` is set; the error given as reason, or a `ManifestError`.
        """
        if self.strict:
            if isinstance(reason, SpeechmmError):
                raise reason
            raise ManifestError(f"{item}: {reason}")
        self.items.append((item, " ".join(str(reason).split())))

    def extend(self, other: "SkipReport") -> None:
        """Note everything another report holds."""
        for item, reason in other.items:
            self.add(item, reason)

    def add_dicts(self, rows: Iterable[SkippedItem]) -> None:
        """Note what an earlier run wrote with `to_dicts`."""
        for row in rows:
            self.add(row["item"], row["reason"])

    def __len__(self) -> int:
        return len(self.items)

    @property
    def exit_code(self) -> int:
        """3 when something was skipped, else 0."""
        return 3 if self.items else 0

    def summary(self, total: int | None, *, noun: str = "inputs") -> str:
        """One line: how many of how many (where that is known) were skipped."""
        known = "" if total is None else f" of {total}"
        return f"{len(self.items)}{known} {noun} skipped"

    def print(self, total: int | None, *, noun: str = "inputs") -> None:
        """Name every skipped item and count them, on stderr; silent when there is none."""
        if not self.items:
            return
        for item, reason in self.items:
            print(f"skipped: {item}: {reason}", file=sys.stderr)
        print(self.summary(total, noun=noun), file=sys.stderr)

    def to_dicts(self) -> list[SkippedItem]:
        """The items as rows for a JSON file."""
        return [{"item": item, "reason": reason} for item, reason in self.items]

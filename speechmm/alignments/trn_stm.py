"""Reads and writes NIST's trn, "words (id)", and stm, with speaker and times, as sclite reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from speechmm.alignments.ids import escaped_id, percent_escaped, unescaped_id
from speechmm.alignments.segments import LONGEST_SECONDS

_PARENTHESIS = re.compile("[()]")
_STRICT_TRN = re.compile(r".*\([^()\s]+\)\s*")
_SIGNS = re.compile(r"[{}]|(?<!\S)@(?!\S)|(?<!\S);(?=;)|%(?=(?:25)*(?:7B|7D|40|3B))")
"""What sclite takes for its own in a text (alternatives, the empty word, a comment), and escapes."""
_ESCAPED_SIGNS = re.compile("%7B|%7D|%40|%3B|%25(?=(?:25)*(?:7B|7D|40|3B))")
_DEEPEST_ID = 2  # "(rec (1))"
_NOT_SCORED = "ignore_time_segment_in_scoring"


def escaped_text(text: str) -> str:
    """A text in one line, signs that sclite gives a meaning of its own written as in a URL."""
    return _SIGNS.sub(percent_escaped, " ".join(text.split()))


def trn_line(id: str, text: str) -> str:
    """One utterance, with its line end. Blanks and parentheses in the id are written as in a URL."""
    return f"{escaped_text(text)} ({escaped_id(id)})".lstrip() + "\n"


def parse_trn_line(line: str) -> tuple[str, str] | None:
    """Id and text of a trn line; None where it is not one.

    An id with blanks and parentheses that another program did not escape is read all the same.
    """
    line = line.rstrip()
    first = _opening(line)
    if first is None or first + 2 >= len(line):
        return None
    return unescaped_id(line[first + 1 : -1]), _plain_text(line[:first].rstrip())


def is_trn_line(line: str) -> bool:
    """Whether a line of an unknown file looks like trn: its id then has no blanks in it."""
    return _STRICT_TRN.fullmatch(line) is not None


@dataclass(frozen=True)
class StmRow:
    """One segment of a recording: who says what, and when."""

    id: str
    """Of the recording (with its channel where a file has several)."""
    speaker: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    text: str
    scored: bool = True
    """Whether what is recognised there counts; the text is "" where it does not."""


def stm_line(row: StmRow) -> str:
    """One segment, on channel 1, with its line end."""
    speaker = escaped_id(row.speaker) or "unknown"
    times = f"{row.start:.3f} {row.end:.3f}"
    text = escaped_text(row.text) if row.scored else _NOT_SCORED.upper()
    line = f"{escaped_id(row.id)} 1 {speaker} {times} <o> {text}"
    return line.rstrip() + "\n"


def parse_stm_line(line: str) -> tuple[str, StmRow] | None:
    """Channel and segment of an stm line; None for a comment.

    Raises:
        ValueError: It is not a line of stm.
    """
    if line.startswith(";;") or not line.strip():
        return None
    name, channel, speaker, start, end, *words = line.split()
    if words and words[0].startswith("<") and words[0].endswith(">"):
        words = words[1:]
    scored = [word.lower() for word in words] != [_NOT_SCORED]
    text = _plain_text(" ".join(words)) if scored else ""
    name, speaker = unescaped_id(name), unescaped_id(speaker)
    row = StmRow(name, speaker, float(start), float(end), text, scored)
    if not 0 <= row.start <= row.end < LONGEST_SECONDS:
        raise ValueError(f"it ends at {end} s and starts at {start} s")
    return channel, row


def _opening(line: str) -> int | None:
    """Where the parenthesis is opened that closes a line; there may be one level more within it."""
    if not line.endswith(")"):
        return None
    depth = 0
    for sign in reversed(list(_PARENTHESIS.finditer(line))):
        depth += 1 if sign[0] == ")" else -1
        if depth == 0:
            return sign.start()
        if depth > _DEEPEST_ID:
            return None
    return None


def _plain_text(text: str) -> str:
    """The reverse of `escaped_text`."""
    return _ESCAPED_SIGNS.sub(lambda match: unquote(match[0]), text)

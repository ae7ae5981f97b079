"""Reads the cues of subtitle files: SubRip (srt), WebVTT (vtt) and SubStation Alpha (ass)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechmm.alignments.segments import Segment
from speechmm.errors import ManifestError
from speechmm.files.text import all_lines

SUBTITLE_SUFFIXES = (".srt", ".vtt", ".ass")

_CLOCK = r"(?:(\d{1,9}):)?(\d{1,9}):(\d{1,9})[.,](\d{1,3})"
_CUE_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(\s.*)?")
_ASS_FIELDS_BEFORE_TEXT = 9
_SRT_TAG = re.compile(r"</?(?:b|i|u|s|font)(?:\s[^>]*)?>|\{\\[^}]*\}", re.IGNORECASE)
_VTT_TAG = re.compile(r"<[^>]*>")
_ASS_OVERRIDE = re.compile(r"(?<!\\)\{[^}]*\}")


def is_cue_time(line: str) -> bool:
    """Whether a line of an unknown file says when a subtitle of srt or vtt is shown."""
    return _CUE_TIMES.fullmatch(line) is not None


def read_subtitles(path: Path) -> list[Segment]:
    """The cues of a subtitle file: text in one line, without mark-up, start and end in seconds.

    A file without any cue, of speech in which nothing was said, gives none.

    Raises:
        ManifestError: The file cannot be read, or a line of ass is broken.
    """
    lines = all_lines(path)
    first = next((line.strip() for line in lines if line.strip()), "")
    if path.suffix.lower() == ".ass" or first == "[Script Info]":
        return list(_ass_cues(lines, path))
    is_vtt = path.suffix.lower() == ".vtt" or first.startswith("WEBVTT")
    return list(_timed_blocks(lines, is_vtt=is_vtt))


def _timed_blocks(lines: Sequence[str], *, is_vtt: bool) -> Iterator[Segment]:
    """Cues of srt and vtt: a line with times, and the text up to the next blank line."""
    at = 0
    while at < len(lines):
        times = _CUE_TIMES.fullmatch(lines[at])
        at += 1
        if times is None:
            continue  # a number, a name, a note, or a blank line
        text = []
        while at < len(lines) and lines[at].strip():
            text.append(lines[at])
            at += 1
        label = " ".join(text)
        label = html.unescape(_VTT_TAG.sub("", label)) if is_vtt else _SRT_TAG.sub("", label)
        yield _cue(label, _seconds(times.groups()[:4]), _seconds(times.groups()[4:8]))


def _ass_cues(lines: Sequence[str], path: Path) -> Iterator[Segment]:
    for number, line in enumerate(lines, start=1):
        if not line.startswith("Dialogue:"):
            continue
        fields = line.removeprefix("Dialogue:").split(",", _ASS_FIELDS_BEFORE_TEXT)
        clocks = [re.fullmatch(rf"\s*{_CLOCK}\s*", field) for field in fields[1:3]]
        if len(fields) <= _ASS_FIELDS_BEFORE_TEXT or None in clocks:
            raise ManifestError(
                f"{path}:{number}: {line[:60]!r} is not a line of dialogue; expected ten fields "
                "with start and end as 0:00:00.00. Correct the line."
            )
        start, end = (_seconds(clock.groups()) for clock in clocks if clock is not None)
        text = _ASS_OVERRIDE.sub("", fields[-1]).replace("\\N", " ").replace("\\n", " ")
        text = text.replace("\\{", "{").replace("\\}", "}").replace("\\\u2060", "\\")
        yield _cue(text, start, end)


def _cue(text: str, start: float, end: float) -> Segment:
    return Segment(label=" ".join(text.split()), start=start, end=max(start, end))


def _seconds(clock: Sequence[str | None]) -> float:
    """Hours (which may be missing), minutes, seconds and their decimals."""
    hours, minutes, seconds, decimals = clock
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(f"{seconds}.{decimals}")

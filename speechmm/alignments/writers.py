"""Alignments to the files other programs read: TextGrid, CTM, subtitles, JSON lines, durations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from speechmm.alignments.segments import Alignment, Segment
from speechmm.errors import ConfigError
from speechmm.timing import format_clock
from speechmm.writing import safe_name, write_aside, write_text

FORMATS = ("textgrid", "ctm", "srt", "vtt", "ass", "jsonl", "durations")
CUE_WORDS = 8  # words of one subtitle at most
CUE_GAP = 0.8  # seconds of silence that end a subtitle
ASS_HEADER = """\
[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,20,&H00FFFFFF,&H0000FFFF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def write_alignments(
    alignments: Iterable[Alignment], out: Path, format: str, *, frame_shift: float = 0.01
) -> None:
    """Writes alignments in one of ``FORMATS``.

    Args:
        alignments: What to write, one after the other.
        out: A file for ctm and jsonl, and for srt, vtt, ass when its name has that suffix (then
            there may be one alignment only); else a folder with one file an alignment.
        format: One of ``FORMATS``.
        frame_shift: Seconds of a frame, for durations.

    Raises:
        ConfigError: No such format, or several alignments for one subtitle file.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"format: found {format!r}; expected one of {', '.join(FORMATS)}. Choose one of these."
        )
    if format == "jsonl":
        _write_lines(out, (_json_line(one) for one in alignments))
    elif format == "ctm":
        _write_lines(out, (line for one in alignments for line in ctm_lines(one)))
    elif format == "textgrid":
        for one in alignments:
            write_textgrid(one, out / f"{safe_name(one.id)}.TextGrid")
    elif format == "durations":
        _write_durations(alignments, out, frame_shift)
    else:
        _write_subtitles(alignments, out, format)


def _write_lines(out: Path, lines: Iterable[str]) -> None:
    with write_aside(out) as aside, aside.open("w", encoding="utf-8", newline="\n") as stream:
        for line in lines:
            stream.write(line + "\n")
            stream.flush()


def _json_line(alignment: Alignment) -> str:
    return json.dumps(alignment.to_dict(), ensure_ascii=False)


def ctm_lines(alignment: Alignment) -> Iterator[str]:
    """NIST CTM: file, channel, start, duration, word and (when known) confidence."""
    for segment in next(iter(alignment.units.values()), []):
        label = "_".join(segment.label.split()) or "_"
        line = f"{alignment.id} 1 {segment.start:.4f} {segment.duration:.4f} {label}"
        yield line if segment.confidence is None else f"{line} {segment.confidence:.4f}"


def write_textgrid(alignment: Alignment, path: Path) -> None:
    """One interval tier per unit, for Praat; units of no length cannot stand in one."""
    from praatio import textgrid
    from praatio.data_classes.interval_tier import IntervalTier

    grid = textgrid.Textgrid(0, alignment.duration)
    for unit, segments in alignment.units.items():
        entries = [
            (one.start, min(one.end, alignment.duration), one.label)
            for one in segments
            if min(one.end, alignment.duration) > one.start
        ]
        grid.addTier(IntervalTier(unit, entries, 0, alignment.duration))
    with write_aside(path) as aside:
        grid.save(str(aside), format="long_textgrid", includeBlankSpaces=True)


def cues(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Words grouped into subtitles: at most ``CUE_WORDS``, none across a long silence."""
    groups: list[list[Segment]] = []
    for segment in segments:
        last = groups[-1] if groups else []
        if not last or len(last) >= CUE_WORDS or segment.start - last[-1].end > CUE_GAP:
            groups.append([])
        groups[-1].append(segment)
    return groups


def format_srt(segments: Sequence[Segment]) -> str:
    """SubRip subtitles of some words."""
    blocks = []
    for number, cue in enumerate(cues(segments), 1):
        start = format_clock(cue[0].start, decimal=",")
        end = format_clock(cue[-1].end, decimal=",")
        blocks.append(f"{number}\n{start} --> {end}\n{_words(cue)}\n")
    return "\n".join(blocks)


def format_vtt(segments: Sequence[Segment]) -> str:
    """WebVTT subtitles of some words."""
    blocks = ["WEBVTT\n"]
    for cue in cues(segments):
        start, end = format_clock(cue[0].start), format_clock(cue[-1].end)
        text = _words(cue).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{start} --> {end}\n{text}\n")
    return "\n".join(blocks)


def format_ass(segments: Sequence[Segment]) -> str:
    """Karaoke subtitles: each word lights up when it is said (centiseconds)."""
    lines = [ASS_HEADER.rstrip("\n")]
    for cue in cues(segments):
        parts = []
        for word, following in zip(cue, [*cue[1:], None], strict=True):
            until = word.end if following is None else following.start
            label = word.label.replace("{", "(").replace("}", ")")
            parts.append(f"{{\\k{round(100 * (until - word.start))}}}{label}")
        start, end = _ass_clock(cue[0].start), _ass_clock(cue[-1].end)
        lines.append(f"Dialogue: 0,{start},{end},Default,,0,0,0,,{' '.join(parts)}")
    return "\n".join(lines) + "\n"


def _ass_clock(seconds: float) -> str:
    hundredths = round(100 * seconds)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest / 100:05.2f}"


def _words(cue: Sequence[Segment]) -> str:
    return " ".join(word.label for word in cue)


def _write_subtitles(alignments: Iterable[Alignment], out: Path, format: str) -> None:
    make = {"srt": format_srt, "vtt": format_vtt, "ass": format_ass}[format]
    single = out.suffix.lower() == f".{format}"
    for number, one in enumerate(alignments):
        if single and number:
            raise ConfigError(
                f"{out}: one subtitle file for several inputs; expected a folder. "
                "Give --out a folder."
            )
        text = make(next(iter(one.units.values()), []))
        write_text(out if single else out / f"{safe_name(one.id)}.{format}", text)


def duration_rows(alignment: Alignment, frame_shift: float) -> tuple[list[str], list[int]]:
    """Labels and frames of the finest unit; gaps are rows labelled "".

    The frames add up to ``round(duration / frame_shift)`` exactly.
    """
    segments = max(alignment.units.values(), key=len, default=[])
    total = round(alignment.duration / frame_shift)
    labels: list[str] = []
    frames: list[int] = []
    position = 0
    for segment in segments:
        start = min(total, max(position, round(segment.start / frame_shift)))
        end = min(total, max(start, round(segment.end / frame_shift)))
        if start > position:
            labels.append("")
            frames.append(start - position)
        labels.append(segment.label)
        frames.append(end - start)
        position = end
    if position < total:
        labels.append("")
        frames.append(total - position)
    return labels, frames


def _write_durations(alignments: Iterable[Alignment], out: Path, frame_shift: float) -> None:
    import numpy as np

    lines = []
    for one in alignments:
        labels, frames = duration_rows(one, frame_shift)
        with write_aside(out / f"{safe_name(one.id)}.npy") as aside:
            np.save(aside, np.asarray(frames, np.int64))
        shown = " ".join(label or "sil" for label in labels)
        lines.append(f"{one.id}|{shown}|{' '.join(map(str, frames))}")
    write_text(out / "durations.txt", "".join(line + "\n" for line in lines))

"""Groups words into subtitles and writes them as players read them: srt, vtt and ass."""

import html
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import floor

from speechmm.alignments.scripts import columns, is_unspaced, pieces
from speechmm.alignments.segments import Alignment, Segment
from speechmm.alignments.word_pieces import LONG_SECONDS, cut_for_display, text_of
from speechmm.timing import format_clock

LINE_LETTERS = 42
"""Longest line of a subtitle in columns, as broadcasters have it; East Asian letters take two."""

_CUE_LETTERS = 2 * LINE_LETTERS - 4  # two lines, which seldom fill to the end
_CUE_SECONDS = LONG_SECONDS
_PAUSE_SECONDS = 0.8
_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！", "؟", "।")

_CLOSING_SIGNS = (*_SENTENCE_ENDS, *",;:)]}\"'”’»、，；：）")

_ASS_HEADER = """\
[Script Info]
ScriptType: v4.00+
WrapStyle: 0
PlayResX: 1280
PlayResY: 720

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,48,&H00FFFFFF,&H00A0A0A0,&H00000000,&H80000000,\
0,0,0,0,100,100,0,0,1,2,1,2,40,40,40,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def group_words(words: Sequence[Segment]) -> list[Segment]:
    """Subtitles ("cues") from words: two lines and 7 s at most, broken at pauses and sentences.

    In scripts without spaces a cue may begin with any letter, and so it may in overlong words.

    Args:
        words: Segments in the order of time; those without a label are left out, and signs that
            no word is with.
    """
    return [
        Segment(
            label=_joined(group),
            start=group[0].start,
            end=max(word.end for word in group),
        )
        for group in _groups(words)
    ]


def format_srt(cues: Iterable[Segment]) -> str:
    """SubRip: numbered cues, times with a comma."""
    blocks = [
        f"{number}\n{_span(cue, ',')}\n{_wrapped(cue.label)}\n"
        for number, cue in enumerate(cues, start=1)
    ]
    return "\n".join(blocks)


def format_vtt(cues: Iterable[Segment]) -> str:
    """WebVTT, as browsers read it; ``&``, ``<`` and ``>`` are escaped."""
    blocks = [
        f"{_span(cue, '.')}\n{html.escape(_wrapped(cue.label), quote=False)}\n" for cue in cues
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def format_ass(alignment: Alignment) -> str:
    """Advanced SubStation Alpha with karaoke marks: every word lights up when it is said."""
    return _ASS_HEADER + "".join(
        f"Dialogue: 0,{_ass_clock(group[0].start)},{_ass_clock(group[-1].end)},Default,,0,0,0,,"
        f"{_karaoke(group)}\n"
        for group in _groups(alignment.spoken)
    )


def _groups(words: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Words by cue; a dash or note before the first word of a cue is shown with that word."""
    group: list[Segment] = []
    waiting: list[Segment] = []  # signs that were not spoken, and belong to the word after them
    letters = 0
    for word in cut_for_display(words, _CUE_LETTERS // 2):
        length = columns(_one_line(word.label)) + (not word.glued)
        if not word.label.strip():
            continue
        if word.end <= word.start:
            if waiting or not group or _is_opening(word.label) or letters + length > _CUE_LETTERS:
                waiting.append(word)
            else:
                group.append(word)
                letters += length
            continue
        added = length + sum(columns(_one_line(sign.label)) + 1 for sign in waiting)
        if group and _breaks(group, word, letters + added):
            yield group
            group, letters = [], 0
        if not group:
            waiting = [replace(sign, start=word.start, end=word.start) for sign in waiting]
        group += [*waiting, word]
        letters += added
        waiting = []
    if group:
        yield group + waiting


def _breaks(group: Sequence[Segment], word: Segment, letters: int) -> bool:
    """Whether a word begins a new cue, as the cue would have too many letters with it, or the like."""
    return (
        letters > _CUE_LETTERS
        or word.end - group[0].start > _CUE_SECONDS
        or word.start - group[-1].end >= _PAUSE_SECONDS
        or group[-1].label.rstrip("\"'”’»)").endswith(_SENTENCE_ENDS)
    )


def _is_opening(label: str) -> bool:
    """Whether a label is a sign, such as a dash, that stands before words; "..." stands after them."""
    signs = _one_line(label)
    return not any(map(str.isalnum, signs)) and signs[0] not in _CLOSING_SIGNS


def _joined(group: Sequence[Segment]) -> str:
    """The text of a cue, with spaces where there are any between its words."""
    first, *others = (replace(word, label=_one_line(word.label)) for word in group)
    return text_of([replace(first, glued=False), *others])


def _one_line(label: str) -> str:
    return " ".join(label.split())


def _wrapped(text: str) -> str:
    """The text in lines of like length, as few as will do."""
    lines = _lines(_one_line(text), LINE_LETTERS)
    for width in range(max(1, columns(text) // max(1, len(lines))), LINE_LETTERS):
        balanced = _lines(_one_line(text), width)
        if len(balanced) == len(lines) > 1:
            return "\n".join(balanced)
    return "\n".join(lines)


def _lines(text: str, width: int) -> list[str]:
    """The text broken between words, or in scripts without spaces between letters.

    Args:
        text: One line.
        width: Columns.
    """
    if not is_unspaced(text):
        return textwrap.wrap(text, width)
    lines = [""]
    for word in text.split(" "):
        for place, piece in enumerate(pieces(word)):
            space = " " if place == 0 and lines[-1] else ""
            if lines[-1] and columns(lines[-1] + space + piece) > width:
                lines.append(piece)
            else:
                lines[-1] += space + piece
    return lines


def _span(cue: Segment, decimal: str) -> str:
    start, end = (
        format_clock(seconds, decimal="," if decimal == "," else ".")
        for seconds in (cue.start, cue.end)
    )
    return f"{start} --> {end}"


def _centiseconds(seconds: float) -> int:
    return max(0, floor(seconds * 100 + 0.5))


def _ass_clock(seconds: float) -> str:
    minutes, rest = divmod(_centiseconds(seconds), 6000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest // 100:02d}.{rest % 100:02d}"


def _karaoke(group: Sequence[Segment]) -> str:
    """Words with their durations in hundredths of a second; pauses are marks without a word."""
    position = _centiseconds(group[0].start)
    parts = []
    for place, word in enumerate(group):
        start, end = _centiseconds(word.start), _centiseconds(word.end)
        if start > position:
            parts.append(f"{{\\k{start - position}}}")
        position = max(position, start)
        last = " " if place + 1 < len(group) and not group[place + 1].glued else ""
        parts.append(f"{{\\k{max(0, end - position)}}}{_ass_text(word.label)}{last}")
        position = max(position, end)
    return "".join(parts)


def _ass_text(label: str) -> str:
    """A label without what ASS takes for commands: a word joiner goes after every backslash."""
    return _one_line(label).replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}")

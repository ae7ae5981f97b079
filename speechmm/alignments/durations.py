"""Writes frames per unit, as the duration predictors of text-to-speech are trained on."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from speechmm.alignments.ids import percent_escaped
from speechmm.alignments.segments import Alignment, Segment
from speechmm.files.atomic import safe_name, write_aside
from speechmm.timing import count_frames, nearest_edge

DURATIONS_FILE = "durations.txt"
SILENCE = "<sil>"
"""Stands in durations.txt for frames without a label."""
_AT_THE_END = 1e-4
"""Seconds: times are written to a tenth of a millisecond."""


def write_durations(alignments: Iterable[Alignment], out: Path, *, frame_shift: float) -> Path:
    """Writes ``durations.txt`` and, for each alignment, ``<id>.npy`` (int64 frames) into a folder.

    A line of ``durations.txt`` is ``id|labels|frames``, labels and frames separated by spaces. In
    labels white space is "_", and "|" and an escape are as in a URL.

    Args:
        alignments: What to write, one after another.
        out: The folder.
        frame_shift: Seconds per frame.

    Returns:
        The path of ``durations.txt``, written when all the rest is.
    """
    table = out / DURATIONS_FILE
    with (
        write_aside(table, ours=True) as aside,
        aside.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        for alignment in alignments:
            labels, frames = unit_durations(alignment, frame_shift)
            name = safe_name(alignment.id)
            with write_aside(out / f"{name}.npy", ours=True) as array, array.open("wb") as binary:
                np.save(binary, np.asarray(frames, dtype=np.int64), allow_pickle=False)
            marks = " ".join(_written(label) or SILENCE for label in labels)
            file.write(f"{name}|{marks}|{' '.join(map(str, frames))}\n")
    return table


def _written(label: str) -> str:
    """A label as a column holds it."""
    return re.sub(r"\||%(?=7C|25)", percent_escaped, "_".join(label.split()))


def unit_durations(alignment: Alignment, frame_shift: float) -> tuple[list[str], list[int]]:
    """Labels and frames of the finest unit, "" for the frames between segments.

    The frames add up to those of the log-mel features of the audio, 1 + samples // hop. Edges are
    rounded, not durations: no error adds up along the utterance. A segment shorter than half a frame
    may get none; one that ends with the audio gets all that are left.

    Args:
        alignment: At least one unit.
        frame_shift: Seconds per frame.
    """
    total = count_frames(alignment.duration, frame_shift)
    labels: list[str] = []
    frames: list[int] = []
    position = 0
    for segment in _finest(alignment):
        start = min(max(nearest_edge(segment.start, frame_shift), position), total)
        end = min(max(nearest_edge(segment.end, frame_shift), start), total)
        if segment.end >= alignment.duration - _AT_THE_END and end > start:
            end = total
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


def _finest(alignment: Alignment) -> Sequence[Segment]:
    """The unit with the most segments; the last of those that have equally many."""
    return max(reversed(list(alignment.units.values())), key=len, default=[])

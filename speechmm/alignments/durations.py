"""Writes frames per unit, as the duration predictors of text-to-speech are trained on."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from speechmm.alignments.segments import Alignment, Segment
from speechmm.files.atomic import safe_name, write_aside
from speechmm.timing import seconds_to_frames

DURATIONS_FILE = "durations.txt"
SILENCE = "<sil>"
"""Stands in durations.txt for frames without a label."""


def write_durations(alignments: Iterable[Alignment], out: Path, *, frame_shift: float) -> Path:
    """Writes ``durations.txt`` and, for each alignment, ``<id>.npy`` (int64 frames) into a folder.

    A line of ``durations.txt`` is ``id|labels|frames``, labels and frames separated by spaces.

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
            marks = " ".join("_".join(label.split()) or SILENCE for label in labels)
            file.write(f"{name}|{marks}|{' '.join(map(str, frames))}\n")
    return table


def unit_durations(alignment: Alignment, frame_shift: float) -> tuple[list[str], list[int]]:
    """Labels and frames of the finest unit, "" for the frames between segments.

    The frames add up to the duration, rounded half up to a frame. Edges are rounded, not durations:
    no error adds up along the utterance. A segment shorter than half a frame may get none.

    Args:
        alignment: At least one unit.
        frame_shift: Seconds per frame.
    """
    rate = 1_000_000  # frame_shift in whole microseconds, for timing's integer hop
    hop = round(frame_shift * rate)
    total = max(0, seconds_to_frames(alignment.duration, hop, rate))
    labels: list[str] = []
    frames: list[int] = []
    position = 0
    for segment in _finest(alignment):
        start = min(max(seconds_to_frames(segment.start, hop, rate), position), total)
        end = min(max(seconds_to_frames(segment.end, hop, rate), start), total)
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

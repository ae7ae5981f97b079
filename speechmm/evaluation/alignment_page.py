"""Renders boundary errors as one HTML page: the worst with audio and spectrogram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from speechmm.evaluation.boundaries import THRESHOLDS_MS, BoundaryScore, Match
from speechmm.evaluation.clips import Clip, make_clips
from speechmm.evaluation.html import render_html
from speechmm.evaluation.report_types import BoundaryRow
from speechmm.evaluation.text_lines import UtteranceText
from speechmm.files.atomic import write_text

WORST_SHOWN = 20
CONTEXT_SECONDS = 0.5
"""Audio before and after a unit in its clip."""
WIDEST_MS = 200
BIN_MS = 10


class Bar(TypedDict):
    """One bar of a histogram."""

    left: float
    """Of its errors, milliseconds."""
    count: int
    height: float
    """Share of the highest bar."""


class Mark(TypedDict):
    """A span in the picture of a clip."""

    name: str
    left: float
    """Percent of the picture's width."""
    width: float
    """Percent of the picture's width."""
    time: tuple[float, float]
    """Start and end, seconds from the start of the clip."""


class WorstRow(TypedDict):
    """One of the units whose edges are furthest off."""

    match: Match
    clip: Clip | None
    marks: list[Mark]


class KindSection(TypedDict):
    """What the page shows of one kind of unit."""

    name: str
    row: BoundaryRow
    histograms: dict[str, list[Bar]]
    curve: list[tuple[float, float]]
    worst: list[WorstRow]


def write_alignment_page(score: BoundaryScore, path: Path, *, command: str) -> None:
    """Writes the page; it loads nothing, and every text in it is escaped."""
    kinds = [_kind(kind, score) for kind in score.units]
    page = render_html(
        "alignment.html.j2",
        score=score,
        kinds=kinds,
        command=command,
        limits=THRESHOLDS_MS,
        widest=WIDEST_MS,
    )
    write_text(path, page)


def _kind(kind: str, score: BoundaryScore) -> KindSection:
    matches = score.matches[kind]
    starts = np.asarray([one.start_ms for one in matches])
    ends = np.asarray([one.end_ms for one in matches])
    return {
        "name": kind,
        "row": score.units[kind],
        "histograms": {"starts": histogram(starts), "ends": histogram(ends)},
        "curve": cumulative(np.abs(np.concatenate([starts, ends]))),
        "worst": _worst(matches),
    }


def histogram(errors: NDArray[np.float64]) -> list[Bar]:
    """Bars of the signed errors (ms), 10 ms wide; what lies outside counts in the outermost."""
    edges = np.arange(-WIDEST_MS, WIDEST_MS + BIN_MS, BIN_MS)
    inside = np.clip(errors, edges[0], edges[-1] - 1e-6)
    counts, _ = np.histogram(inside, edges)
    highest = max(1, int(counts.max(initial=0)))
    return [
        {"left": float(left), "count": int(count), "height": float(count / highest)}
        for left, count in zip(edges, counts, strict=False)
    ]


def cumulative(errors: NDArray[np.float64]) -> list[tuple[float, float]]:
    """(ms, share of the edges whose error is at most that), every 2 ms."""
    if not len(errors):
        return []
    ordered = np.sort(errors)
    limits = np.arange(0, WIDEST_MS + 1, 2)
    shares = np.searchsorted(ordered, limits, side="right") / len(ordered)
    return [(float(x), float(y)) for x, y in zip(limits, shares, strict=True)]


def _worst(matches: Sequence[Match]) -> list[WorstRow]:
    ranked = sorted(matches, key=lambda one: -one.worst_ms)[:WORST_SHOWN]
    clips = make_clips((at, _around(one)) for at, one in enumerate(ranked) if one.audio)
    return [
        {"match": one, "clip": clips.get(at), "marks": _marks(one, clips.get(at))}
        for at, one in enumerate(ranked)
    ]


def _around(match: Match) -> UtteranceText:
    """The part of the audio that holds the unit where it is and where it was found."""
    start = max(0.0, min(match.reference.start, match.hypothesis.start) - CONTEXT_SECONDS)
    end = max(match.reference.end, match.hypothesis.end) + CONTEXT_SECONDS
    return UtteranceText(
        "",
        audio=match.audio,
        channels=match.channels,
        start=match.audio_start + start,
        duration=end - start,
    )


def _marks(match: Match, clip: Clip | None) -> list[Mark]:
    """Where the two spans lie in the clip's picture, as shares of its width."""
    if clip is None:
        return []
    first = clip.start - match.audio_start
    return [
        {
            "name": name,
            "left": 100 * (span.start - first) / clip.duration,
            "width": 100 * (span.end - span.start) / clip.duration,
            "time": (span.start - first, span.end - first),
        }
        for name, span in (("reference", match.reference), ("found", match.hypothesis))
    ]

"""Draws one picture per aligned utterance: spectrogram, words, soft alignment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechmm.alignments import Alignment, Segment
from speechmm.files.atomic import safe_name, write_aside
from speechmm.inference.alignment.soft_alignment import SoftAlignment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES_PER_SECOND = 1.6
MIN_INCHES, MAX_INCHES = 6.0, 48.0
DPI = 110
MAX_TOKEN_LABELS = 150
"""With more tokens than this their names are left out: they could not be read."""


class PictureFolder:
    """Draws every alignment it is told of into a folder; an observer of the aligner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, alignment: Alignment, soft: SoftAlignment) -> None:
        """Draws ``<id>.png``."""
        draw_alignment(alignment, soft, self.folder / f"{safe_name(alignment.id)}.png")


def draw_alignment(alignment: Alignment, soft: SoftAlignment, path: Path) -> None:
    """Writes a PNG: log-mel spectrogram with words and boundaries above, soft alignment below.

    Args:
        alignment: Its words, or its finest units when it has no words, are drawn.
        soft: The features and scores it was read from.
        path: The file to write; its folder is made when missing.

    Raises:
        ConfigError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = min(MAX_INCHES, max(MIN_INCHES, INCHES_PER_SECOND * alignment.duration))
    figure = Figure(figsize=(width, 6.0), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.4])
    segments = alignment.words or next(iter(alignment.units.values()), [])
    _draw_spectrogram(top, soft)
    _draw_segments(top, segments, soft.features.shape[1])
    _draw_soft_alignment(bottom, soft)
    for edge in {time for segment in segments for time in (segment.start, segment.end)}:
        bottom.axvline(edge, color="white", linewidth=0.6, alpha=0.7)
    confidence = "" if alignment.confidence is None else f", confidence {alignment.confidence:.2f}"
    top.set_title(f"{alignment.id}{confidence}", fontsize=9, loc="left", pad=18, parse_math=False)
    bottom.set_xlabel("seconds")
    bottom.set_xlim(0.0, alignment.duration)
    with write_aside(path, ours=True) as aside:
        figure.savefig(aside, format="png")


def _draw_spectrogram(axes: Axes, soft: SoftAlignment) -> None:
    axes.imshow(
        soft.features.numpy().T,
        extent=(*_time_extent(soft), -0.5, soft.features.shape[1] - 0.5),
        **_image_options("magma"),
    )
    axes.set_ylabel("mel band")


def _draw_segments(axes: Axes, segments: list[Segment], bands: int) -> None:
    """Boundaries in the spectrogram, labels above it, paler where the model is less sure."""
    for segment in segments:
        for edge in (segment.start, segment.end):
            axes.axvline(edge, color="cyan", linewidth=0.8)
        sure = 1.0 if segment.confidence is None else segment.confidence
        axes.text(
            (segment.start + segment.end) / 2,
            bands,
            segment.label,
            ha="center",
            va="bottom",
            fontsize=8,
            alpha=0.4 + 0.6 * sure,
            parse_math=False,
        )


def _draw_soft_alignment(axes: Axes, soft: SoftAlignment) -> None:
    """Probability of each token in each frame, the first token at the bottom."""
    tokens = soft.log_probs.shape[1]
    axes.imshow(
        np.exp(soft.log_probs.numpy()).T,
        extent=(*_time_extent(soft), -0.5, tokens - 0.5),
        vmin=0.0,
        vmax=1.0,
        **_image_options("viridis"),
    )
    axes.set_ylabel("token")
    if tokens <= MAX_TOKEN_LABELS:
        axes.set_yticks(range(tokens), soft.labels, fontsize=max(3.0, min(8.0, 240 / tokens)))
        for label in axes.get_yticklabels():
            label.set_parse_math(False)


def _time_extent(soft: SoftAlignment) -> tuple[float, float]:
    """Left and right edges in seconds; frames are centred on their times."""
    half = soft.frame_seconds / 2
    return -half, soft.features.shape[0] * soft.frame_seconds - half


def _image_options(colors: str) -> dict[str, Any]:
    return {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": colors}

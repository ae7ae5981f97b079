"""Says without a reference how far alignments are to be trusted, and which stand out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from speechmm.alignments import Alignment, Segment
from speechmm.inference.alignment.viterbi import Bools, Doubles

WRONG_FIT = math.exp(-2.0)
"""An utterance of known phones that fits its text worse has another text (see :func:`wrong_texts`)."""
FAR_DEVIATIONS = 4.0
"""Median deviations below the median fit at which an utterance stands out."""
_FEWEST = 10
"""Of fewer utterances none stands out."""
_LEAST_FIT = math.log(1e-9)


def outliers(alignments: Sequence[Alignment], deviations: float = FAR_DEVIATIONS) -> set[str]:
    """The ids of utterances that fit their text far worse than the others do.

    Args:
        alignments: Of a corpus.
        deviations: How many times the median deviation below the median log confidence counts as far.
    """
    far = _far(_fits(alignments), deviations)
    return {one.id for one, is_far in zip(alignments, far, strict=True) if is_far}


def wrong_texts(alignments: Sequence[Alignment]) -> set[str]:
    """The ids of utterances in which another text is said, as an aligner for all languages hears it.

    They fit badly by themselves, and among ten or more also worse than the others: of a language with
    sounds that the aligner has never heard, nearly all fit badly.
    """
    wrong = _wrong(_fits(alignments))
    return {one.id for one, is_wrong in zip(alignments, wrong, strict=True) if is_wrong}


def unfit(fits: Sequence[float], *, shared: bool) -> list[int]:
    """Which parts of a recording, or utterances of a corpus, fit their text badly, as far as one can tell.

    Args:
        fits: The logarithms of their confidences; of one or more.
        shared: Whether the units are the known phones of all languages (:func:`wrong_texts`), or those of
            the corpus (:func:`outliers`).
    """
    clipped = np.maximum(np.array(fits), _LEAST_FIT)
    far: list[int] = np.flatnonzero(_wrong(clipped) if shared else _far(clipped)).tolist()
    return far


def _fits(alignments: Sequence[Alignment]) -> Doubles:
    """The logarithms of their confidences."""
    found: Doubles = np.log(
        [max(math.exp(_LEAST_FIT), one.confidence or 0.0) for one in alignments]
    )
    return found


def _far(fits: Doubles, deviations: float = FAR_DEVIATIONS) -> Bools:
    """Which are so many times the median deviation below the median; of few, none."""
    if len(fits) < _FEWEST:
        return np.zeros(len(fits), dtype=np.bool_)
    middle = np.median(fits)
    spread = 1.4826 * float(np.median(np.abs(fits - middle)))
    far: Bools = fits < middle - deviations * max(spread, 0.05)
    return far


def _wrong(fits: Doubles) -> Bools:
    """Which are of another text; see :func:`wrong_texts`."""
    low: Bools = fits < math.log(WRONG_FIT)
    return low & _far(fits, 2.5) if len(fits) >= _FEWEST else low


def edge_range(segments: Iterable[Segment]) -> float | None:
    """The median length of the ranges of the edges, seconds; None where nothing says."""
    pairs = [pair for one in segments for pair in (one.start_range, one.end_range) if pair]
    return float(np.median([last - first for first, last in pairs])) if pairs else None


def trust(alignments: Sequence[Alignment], unit: str) -> str | None:
    """How exact the edges of a corpus are thought to be, and how many utterances stand out, in a sentence.

    Args:
        alignments: Of a corpus.
        unit: Whose edges are meant: ``word`` or a finer one.

    Returns:
        None where no edge has a range.
    """
    width = edge_range(segment for one in alignments for segment in one.units[unit])
    if width is None:
        return None
    far = len(outliers(alignments))
    return (
        f"eight of ten {unit} edges are thought to lie within {1000 * width:.0f} ms (median); utterances "
        f"that fit their texts far worse than the others: {far} of {len(alignments)}"
    )

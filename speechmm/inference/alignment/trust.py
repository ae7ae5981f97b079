"""Says without a reference how far alignments are to be trusted, and which stand out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from speechmm.alignments import Alignment, Segment

WRONG_FIT = math.exp(-2.0)
"""An utterance of known phones that fits its text worse has another text (see :func:`wrong_texts`)."""
_FEWEST = 10
"""Of fewer utterances none stands out."""


def outliers(alignments: Sequence[Alignment], deviations: float = 4.0) -> set[str]:
    """The ids of utterances that fit their text far worse than the others do.

    Args:
        alignments: Of a corpus.
        deviations: How many times the median deviation below the median log confidence counts as far.
    """
    scores = np.log([max(1e-9, one.confidence or 0.0) for one in alignments])
    middle = np.median(scores)
    spread = 1.4826 * float(np.median(np.abs(scores - middle)))
    far = scores < middle - deviations * max(spread, 0.05)
    return {one.id for one, is_far in zip(alignments, far, strict=True) if is_far}


def wrong_texts(alignments: Sequence[Alignment]) -> set[str]:
    """The ids of utterances in which another text is said, as an aligner for all languages hears it.

    They fit badly by themselves, and among ten or more also worse than the others: of a language with
    sounds that the aligner has never heard, nearly all fit badly.
    """
    far = {one.id for one in alignments if (one.confidence or 0.0) < WRONG_FIT}
    return far & outliers(alignments, 2.5) if len(alignments) >= _FEWEST else far


def unfit(parts: Sequence[Alignment], *, shared: bool) -> set[str]:
    """The ids of the parts of a recording that fit their text badly, as far as one can tell.

    Args:
        parts: Of one recording.
        shared: Whether the units are the known phones of all languages (:func:`wrong_texts`), or those of
            the corpus (:func:`outliers`).
    """
    return wrong_texts(parts) if shared else outliers(parts)


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

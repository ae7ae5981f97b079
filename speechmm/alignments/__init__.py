"""Alignments: what was said when, and the files other programs read it from."""

from speechmm.alignments.segments import Alignment, Segment

__all__ = ["Alignment", "Segment"]

"""Alignments: what was said when, and the files other programs read it from."""

from speechmm.alignments.readers import read_alignments
from speechmm.alignments.segments import Alignment, Segment
from speechmm.alignments.writers import format_srt, format_vtt, write_alignments

__all__ = [
    "Alignment",
    "Segment",
    "format_srt",
    "format_vtt",
    "read_alignments",
    "write_alignments",
]

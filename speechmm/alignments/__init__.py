"""Holds transcripts and alignments, and reads and writes the files other programs use."""

from speechmm.alignments.files import read_alignments, write_alignments
from speechmm.alignments.segments import Alignment, Segment
from speechmm.alignments.subtitles import format_srt, format_vtt, group_words
from speechmm.alignments.transcript import Alternative, Transcript

__all__ = [
    "Alignment",
    "Alternative",
    "Segment",
    "Transcript",
    "format_srt",
    "format_vtt",
    "group_words",
    "read_alignments",
    "write_alignments",
]

"""Holds transcripts and alignments, and reads and writes the files other programs use."""

from speechmm.alignments.files import AlignmentFormat, read_alignments, write_alignments
from speechmm.alignments.segments import Alignment, Segment
from speechmm.alignments.subtitles import format_srt, format_vtt, group_words
from speechmm.alignments.transcript import Alternative, Transcript

__all__ = [
    "Alignment",
    "AlignmentFormat",
    "Alternative",
    "Segment",
    "Transcript",
    "format_srt",
    "format_vtt",
    "group_words",
    "read_alignments",
    "write_alignments",
]

"""Writes transcripts as text, rows of JSON, tables of words, subtitles and TextGrids."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from speechmm.alignments import Alignment, Transcript
from speechmm.alignments.ctm import ctm_lines
from speechmm.alignments.jsonl import jsonl_line
from speechmm.alignments.trn_stm import trn_line
from speechmm.data.skips import SkipReport, named_failure
from speechmm.files.atomic import write_aside
from speechmm.options import LINE_FORMATS

FORMATS_WITHOUT_TIMES = ("text", "trn")


def write_transcripts(
    transcripts: Iterable[Transcript],
    out: Path | None,
    format: str,
    skipped: SkipReport | None = None,
) -> float:
    """Writes transcripts as they come, to a file or folder or to stdout.

    Args:
        transcripts: What was said.
        out: A file; a folder for "textgrid", and for "srt" and "vtt" unless the name ends so (then
            for one transcript only); None for stdout, which takes one transcript in these formats.
        format: One of ``TRANSCRIPT_FORMATS``.
        skipped: Where a transcript is noted that cannot be written as a line of the format; without
            it, the first such is raised.

    Returns:
        Seconds of audio transcribed.

    Raises:
        ConfigError: The place cannot be written.
    """
    seconds = 0.0
    skipped = SkipReport(strict=True) if skipped is None else skipped

    def counted() -> Iterator[Transcript]:
        nonlocal seconds
        for transcript in transcripts:
            seconds += transcript.duration
            yield transcript

    if format in LINE_FORMATS:
        with _open(out) as file:
            for transcript in counted():
                try:
                    file.writelines(list(transcript_lines(transcript, format)))
                except OSError:  # of the place, not of the transcript
                    raise
                except Exception as error:
                    name = transcript.audio or transcript.id
                    skipped.add(name, named_failure(name, error))
                file.flush()
    else:
        _write_units(map(as_alignment, counted()), out, format)
    return seconds


def _write_units(alignments: Iterable[Alignment], out: Path | None, format: str) -> None:
    """Writes subtitles or TextGrids; what goes to stdout is what a file would hold."""
    from speechmm.alignments import write_alignments

    if out is not None:
        write_alignments(alignments, out, format)
        return
    with tempfile.TemporaryDirectory(prefix="speechmm-") as folder:
        file = Path(folder) / f"transcript.{format}"
        write_alignments(alignments, file, format)
        sys.stdout.write(file.read_text(encoding="utf-8"))


@contextmanager
def _open(out: Path | None) -> Iterator[IO[str]]:
    if out is None:
        yield sys.stdout
        return
    with (
        write_aside(out) as aside,
        aside.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        yield file


def transcript_lines(transcript: Transcript, format: str) -> Iterator[str]:
    """The lines of one transcript in a line format, with their ends.

    Args:
        transcript: What was said.
        format: "text" (the words alone), "jsonl" (a row of the interface), "trn" (words and id, as
            NIST sclite reads them) or "ctm" (a line per word: id, channel, start and duration in
            seconds from the start of the utterance, word, confidence).
    """
    if format == "text":
        yield f"{transcript.text}\n"
    elif format == "jsonl":
        yield jsonl_line(transcript.to_dict())
    elif format == "trn":
        yield trn_line(transcript.id, transcript.text)
    else:
        assert format == "ctm", format
        yield from ctm_lines(as_alignment(transcript))


def as_alignment(transcript: Transcript) -> Alignment:
    """The words of a transcript as an alignment, in seconds from the start of the utterance."""
    words = [
        replace(word, start=word.start - transcript.start, end=word.end - transcript.start)
        for word in transcript.words
    ]
    return Alignment(
        id=transcript.id,
        audio=transcript.audio,
        channels=transcript.channels,
        duration=transcript.duration,
        units={"word": words},
        confidence=transcript.confidence,
    )

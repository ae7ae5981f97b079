"""Writes scored texts as NIST sclite reads them: trn, and with times stm and ctm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from speechmm.alignments import Alignment, Segment
from speechmm.alignments.ctm import ctm_lines
from speechmm.alignments.ids import escaped_id
from speechmm.alignments.trn_stm import StmRow, escaped_text, stm_line, trn_line
from speechmm.evaluation.text_lines import UtteranceText
from speechmm.files.atomic import write_text


def write_trn(texts: Mapping[str, str], path: Path) -> None:
    """Writes ``words (id)`` lines that NIST sclite reads word for word."""
    write_text(path, "".join(trn_line(id, text) for id, text in texts.items()), ours=True)


def write_timed(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    texts: Mapping[str, UtteranceText],
    stm: Path,
    ctm: Path,
) -> bool:
    """Writes references as ``stm`` and recognised words as ``ctm``.

    Every utterance is a file of its own there, named by its id. Words whose times are not known
    share the utterance equally. Nothing is written where a duration is not known.

    Args:
        references: Normalised texts by id.
        hypotheses: Likewise.
        texts: What is known of each: speaker, duration, times of words.
        stm: File to write.
        ctm: File to write.

    Returns:
        Whether they were written.
    """
    if not all(texts[id].duration > 0 for id in references):
        return False
    segments: list[str] = []
    words: list[str] = []
    for id in sorted(references, key=lambda id: escaped_id(id).encode()):
        one = texts[id]
        segments.append(stm_line(StmRow(id, one.speaker, 0.0, one.duration, references[id])))
        words += ctm_lines(_timed_words(id, hypotheses[id], one))
    write_text(stm, "".join(segments), ours=True)
    write_text(ctm, "".join(words), ours=True)
    return True


def _timed_words(id: str, hypothesis: str, source: UtteranceText) -> Alignment:
    labels = escaped_text(hypothesis).split()
    spans = _spans(source, len(labels))
    words = [
        Segment(label=label, start=start, end=end)
        for label, (start, end) in zip(labels, spans, strict=True)
    ]
    return Alignment(id=id, duration=source.duration, units={"word": words})


def _spans(text: UtteranceText, words: int) -> list[tuple[float, float]]:
    """Times of the words from the start of the utterance, in order and inside it."""
    if len(text.word_times) == words:
        inside = [
            (min(max(a - text.start, 0.0), text.duration), min(b - text.start, text.duration))
            for a, b in text.word_times
        ]
        return [(start, max(start, end)) for start, end in inside]
    share = text.duration / max(1, words)
    return [(share * at, share * (at + 1)) for at in range(words)]

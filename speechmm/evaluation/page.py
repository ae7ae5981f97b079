"""Writes a WER report as files: one HTML page without network, report.json, and trn for sclite."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from speechmm.evaluation.clips import BUDGET, Clip, PlacedWord, make_clips, place_words
from speechmm.evaluation.error_rate import UtteranceErrors
from speechmm.evaluation.html import render_html
from speechmm.evaluation.report_types import Report
from speechmm.evaluation.results import reading_notes, wer_lines
from speechmm.evaluation.sclite_files import write_timed, write_trn
from speechmm.evaluation.scoring import Scored
from speechmm.evaluation.spoken import SPOKEN_BUDGET, SpokenRow
from speechmm.files.atomic import write_text

WORST_SHOWN = 30
TABLE_BYTES = 5_000_000  # of utterances in the page; the best are left out beyond that
_OPS = {"substitution": "S", "deletion": "D", "insertion": "I"}


def write_report(
    report: Report,
    scored: Scored,
    folder: Path,
    *,
    against: Scored | None = None,
    curves: Path | None = None,
    spoken: Sequence[SpokenRow] = (),
) -> None:
    """Writes ``report.html``, ``report.json``, ``report.md``, ``ref.trn`` and ``hyp.trn``.

    Where durations are known, ``ref.stm`` and ``hyp.ctm`` too.

    Args:
        report: The numbers.
        scored: All utterances.
        folder: Where the files go.
        against: A second system.
        curves: PNG of the training's curves, to show.
        spoken: What the model has spoken, to play.
    """
    references = dict(zip(scored.ids, scored.references, strict=True))
    hypotheses = dict(zip(scored.ids, scored.hypotheses, strict=True))
    write_trn(references, folder / "ref.trn")
    write_trn(hypotheses, folder / "hyp.trn")
    sources = dict(zip(scored.ids, scored.sources, strict=True))
    write_timed(references, hypotheses, sources, folder / "ref.stm", folder / "hyp.ctm")
    page = render_page(report, scored, against=against, curves=curves, spoken=spoken)
    write_text(folder / "report.html", page, ours=True)
    write_text(folder / "report.md", render_summary(report, scored), ours=True)
    text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
    write_text(folder / "report.json", text + "\n", ours=True)


def render_summary(report: Report, scored: Scored) -> str:
    """A few lines of Markdown for a README or a pull request."""
    name = f"{scored.hypothesis.name} against {scored.reference.name}".replace("`", "'")
    return "\n".join([f"## `{name}`", "", *wer_lines(report)]) + "\n"


class TimedPair(TypedDict):
    """A step of an alignment; a recognised word with its time."""

    op: str
    reference: str
    hypothesis: str
    time: tuple[float, float] | None
    """Start and end, seconds from the start of the clip."""


class _StepsRow(TypedDict):
    id: str
    a: list[str | list[str]]
    """The alignment of this system."""


class TableRow(_StepsRow, total=False):
    """An utterance as the page's script reads it, in few bytes; the rest only where known."""

    b: list[str | list[str]]
    """The alignment of the other system."""
    s: str
    """Speaker."""
    c: float
    """Confidence."""
    t: float
    """Seconds."""


def render_page(
    report: Report,
    scored: Scored,
    *,
    against: Scored | None = None,
    curves: Path | None = None,
    spoken: Sequence[SpokenRow] = (),
) -> str:
    """The self-contained page. Every text in it is escaped; it loads nothing."""
    order = sorted(range(len(scored.ids)), key=lambda at: _most_errors_first(scored.words[at]))
    wrong = [at for at in order if scored.words[at].counts.errors]
    budget = BUDGET - (SPOKEN_BUDGET if spoken else 0)
    clips = make_clips(((at, scored.sources[at]) for at in wrong), budget=budget)
    worst = [
        {
            "id": scored.ids[at],
            "speaker": scored.sources[at].speaker,
            "counts": scored.words[at].counts,
            "pairs": _timed_pairs(scored, at, clips.get(at)),
            "clip": clips.get(at),
            "words": _placed_words(scored, at, clips.get(at)),
        }
        for at in wrong[:WORST_SHOWN]
    ]
    rows = _table_rows(scored, against, order)
    # Escaped for a script element: "<" cannot end it.
    data = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return render_html(
        "report.html.j2",
        report=report,
        notes=reading_notes(report),
        title=f"{scored.hypothesis.name} against {scored.reference.name}",
        hypothesis=str(scored.hypothesis),
        reference=str(scored.reference),
        worst=worst,
        data=data,
        rows_shown=len(rows),
        curves=_picture(curves),
        spoken=spoken,
    )


def _picture(path: Path | None) -> str:
    """A PNG file as a data URL; "" without one."""
    if path is None or not path.is_file():
        return ""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _times(scored: Scored, at: int, clip: Clip | None) -> list[tuple[float, float]]:
    """When the recognised words of a clip were said, from its start; none when not known."""
    times, words = scored.sources[at].word_times, scored.words[at].hypothesis
    if clip is None or len(times) != len(words):
        return []
    return [(max(0.0, start - clip.start), max(0.0, end - clip.start)) for start, end in times]


def _timed_pairs(scored: Scored, at: int, clip: Clip | None) -> list[TimedPair]:
    """The steps of an alignment; recognised words with their time in the clip."""
    times = _times(scored, at, clip)
    pairs: list[TimedPair] = []
    place = 0
    for pair in scored.words[at].alignment:
        time = None
        if pair.op != "deletion":
            time = times[place] if times else None
            place += 1
        pairs.append(
            {
                "op": pair.op,
                "reference": pair.reference,
                "hypothesis": pair.hypothesis,
                "time": time,
            }
        )
    return pairs


def _placed_words(scored: Scored, at: int, clip: Clip | None) -> list[PlacedWord]:
    """Recognised words as shares of the width of the clip's picture."""
    times = _times(scored, at, clip)
    if clip is None:
        return []
    return place_words(scored.words[at].hypothesis, times, clip.duration)


def _most_errors_first(one: UtteranceErrors) -> tuple[int, float]:
    return -one.counts.errors, -one.counts.rate


def _table_rows(scored: Scored, against: Scored | None, order: list[int]) -> list[TableRow]:
    """The utterances for the table, worst first, as many as fit."""
    rows: list[TableRow] = []
    bytes_left = TABLE_BYTES
    for at in order:
        source = scored.sources[at]
        row: TableRow = {"id": scored.ids[at], "a": _steps(scored.words[at])}
        if source.speaker:
            row["s"] = source.speaker
        if source.confidence is not None:
            row["c"] = round(source.confidence, 4)
        if source.duration:
            row["t"] = round(source.duration, 2)
        if against is not None:
            row["b"] = _steps(against.words[at])
        bytes_left -= len(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if bytes_left < 0 and rows:
            break
        rows.append(row)
    return rows


def _steps(one: UtteranceErrors) -> list[str | list[str]]:
    """An alignment in few bytes: a word that is right, or [kind, reference, hypothesis]."""
    return [
        pair.reference if pair.op == "hit" else [_OPS[pair.op], pair.reference, pair.hypothesis]
        for pair in one.alignment
    ]

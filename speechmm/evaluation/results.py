"""Writes word error rates as text: the table a command prints, and the sections of RESULTS.md."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from speechmm.errors import ConfigError
from speechmm.evaluation.report_types import ComparisonRow, Interval, RateRow, Report, WerRow
from speechmm.files.atomic import write_text
from speechmm.files.text import read_text

_TRANSLATION_NAMES: dict[Literal["bleu", "chrf"], str] = {"bleu": "BLEU", "chrf": "chrF2"}
LONG_WORDS = 25
"""Characters a word, on average, above which texts hardly have spaces: Greenlandic has 13."""
HEADER = "# Results\n\nWritten by `speechmm score` and `speechmm score-alignment`; do not edit.\n"


def write_results(path: Path, title: str, lines: Sequence[str]) -> None:
    """Writes or replaces the section ``title``; the others, and what stands between, stay.

    A section that would say the same again keeps its date.

    Raises:
        ConfigError: The title cannot mark a section, or the file is not text.
    """
    if not title.strip() or "--" in title or "\n" in title:
        raise ConfigError(
            f'--title: found {title!r}; expected a line of words without "--". Choose another.'
        )
    begin, end = f"<!-- begin {title} -->", f"<!-- end {title} -->"
    text = _read(path)
    pattern = re.compile(re.escape(begin) + r"\n(.*?)\n" + re.escape(end), re.DOTALL)
    content = "\n".join([f"## {title}", "", *lines])
    before = pattern.search(text)
    if before and re.sub(r"\n- date: [\d-]+$", "", before[1]) == content:
        return
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    section = f"{begin}\n{content}\n- date: {today}\n{end}"
    if before:
        text = text[: before.start()] + section + text[before.end() :]
    else:
        text = text.rstrip("\n") + "\n\n" + section + "\n"
    write_text(path, text)


def _read(path: Path) -> str:
    if not path.exists():
        return HEADER
    return read_text(path, error=ConfigError)


def wer_lines(report: Report) -> list[str]:
    """The section of a WER report."""
    wer, cer, ser = report["wer"], report["cer"], report["ser"]
    translated = translation_lines(report)
    errors = wer["substitutions"] + wer["deletions"] + wer["insertions"]
    lines = [
        *(f"- {line}" for line in translated),
        f"- WER: **{100 * wer['value']:.2f} %**, 95 % interval {_interval(wer['ci95'])} %"
        f"{_speaker_interval(wer)}: "
        f"{errors} errors in {wer['reference_words']} words ({wer['substitutions']} substitutions, "
        f"{wer['deletions']} deletions, {wer['insertions']} insertions)",
        f"- CER: {100 * cer['value']:.2f} %, 95 % interval {_interval(cer['ci95'])} %"
        f"{_speaker_interval(cer)}",
        f"- utterances: {report['utterances']}, {ser['wrong']} with an error"
        + (f"; {report['speakers']} speakers" if report["speakers"] else ""),
        f"- normalizer: {report['normalizer']}",
        *(f"- {line}" for line in language_lines(report)),
        *(f"- {note}" for note in reading_notes(report)),
    ]
    if report["missing_hypotheses"] or report["extra_hypotheses"]:
        lines.append(
            f"- without a hypothesis (all words deleted): {len(report['missing_hypotheses'])}; "
            f"without a reference (not counted): {len(report['extra_hypotheses'])}"
        )
    if "comparison" in report:
        other = report["comparison"]
        lines.append(
            f"- against {other['against']['hypothesis']} "
            f"({100 * other['against']['wer']['value']:.2f} %): "
            f"{100 * other['wer_difference']:+.2f} points, 95 % interval "
            f"{_interval(other['ci95'])}{_speaker_interval(other)}, p = {other['p_value']:.4f} "
            f"({other['test']})"
        )
    if report["rtf"] is not None:
        lines.append(f"- real-time factor: {report['rtf']:.4f}")
    if report["checkpoint_sha256"]:
        lines.append(f"- model: `{report['model']}`, sha256 `{report['checkpoint_sha256']}`")
    if report["transcribe_command"]:
        lines.append(f"- transcribed with: `{report['transcribe_command']}`")
    return [
        *lines,
        f"- command: `{report['command']}`",
        f"- commit: {report['git_commit'] or 'not known'}",
    ]


def reading_notes(report: Report) -> list[str]:
    """What one must know to read the rates, in a sentence each; reports of before have none."""
    notes = []
    if number := report.get("respelled_words", 0):
        notes.append(
            f"words that count as right but are typed otherwise (ß/ss, ς/σ, digits of other "
            f"scripts, kinds of apostrophes, joiners without width): {number}"
        )
    if number := report.get("unscored_words", 0):
        notes.append(f"words left out, recognised where the reference scores nothing: {number}")
    if untimed := report.get("untimed_hypotheses", []):
        notes.append(
            f"hypotheses without word times, though the reference has parts that are not scored: "
            f"{len(untimed)}; words recognised there count as inserted"
        )
    if report.get("unspaced_share", 0.0) > 0.5:
        notes.append(
            "read the CER: most of the text is in scripts without spaces between words, so that a "
            "word here is a whole phrase"
        )
    elif _letters_per_word(report) > LONG_WORDS:
        notes.append(
            f"read the CER: a word has {_letters_per_word(report):.0f} letters, so that the texts "
            "seem to have no spaces between words"
        )
    return notes


def translation_lines(report: Report) -> list[str]:
    """BLEU, chrF and their differences to another system, a line each; none without translations."""
    if "translation" not in report:
        return []
    lines = []
    for name, shown in _TRANSLATION_NAMES.items():
        one = report["translation"][name]
        lines.append(
            f"{shown}: {one['score']:.2f}, 95 % interval {_points(one['ci95'])}"
            + (f" (by speaker {_points(one['ci95_speakers'])})" if one["ci95_speakers"] else "")
            + f", {one['signature']}"
        )
        if "translation_comparison" in report:
            other = report["translation_comparison"][name]
            lines.append(
                f"{shown} of the other system: {other['score']:.2f}; difference "
                f"{other['difference']:+.2f}, 95 % interval {_points(other['ci95'])}"
            )
    return lines


def language_lines(report: Report) -> list[str]:
    """The word error rate in each language, where there are several."""
    rows = report.get("by_language", {})
    if len(rows) < 2:
        return []
    found = (
        f"{name} {100 * row['value']:.2f} % ({_interval(row['ci95'])})"
        for name, row in rows.items()
    )
    return ["WER by language: " + ", ".join(found)]


def _points(ends: Interval) -> str:
    return "not known" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def _letters_per_word(report: Report) -> float:
    words = report["wer"]["reference_words"]
    letters = report["cer"].get("reference_words", 0)
    return letters / words if words else 0.0


def wer_table(report: Report) -> str:
    """The table ``speechmm score`` prints."""
    rows: list[tuple[str, ...]] = [
        ("", "%", "95 % interval", "hits", "subst.", "deleted", "inserted", "of")
    ]
    rows += [_rate_cells("WER", report["wer"]), _rate_cells("CER", report["cer"])]
    ser = report["ser"]
    right = str(ser["utterances"] - ser["wrong"])
    rate = f"{100 * ser['value']:.2f}"
    interval = _interval(ser["ci95"], unknown="")
    rows.append(("SER", rate, interval, right, "", "", "", str(ser["utterances"])))
    lines = [*translation_lines(report), *text_table(rows)]
    lines.append(f"{report['utterances']} utterances, normalizer {report['normalizer']}")
    if report["wer"].get("ci95_speakers") is not None:
        lines.append(
            f"95 % intervals by speaker ({report['speakers']} speakers): "
            f"WER {_interval(report['wer']['ci95_speakers'])}, "
            f"CER {_interval(report['cer'].get('ci95_speakers'))}"
        )
    lines += language_lines(report)
    lines += reading_notes(report)
    if "comparison" in report:
        other = report["comparison"]
        lines.append(
            f"against {other['against']['hypothesis']}: WER "
            f"{100 * other['against']['wer']['value']:.2f} %; difference "
            f"{100 * other['wer_difference']:+.2f} points (95 % interval "
            f"{_interval(other['ci95'], unknown='')}{_speaker_interval(other)}), "
            f"p = {other['p_value']:.4f} "
            f"({other['test']}, {other['segments']} segments)"
        )
    return "\n".join(lines)


def _rate_cells(name: str, row: RateRow) -> tuple[str, ...]:
    counts = (row["hits"], row["substitutions"], row["deletions"], row["insertions"])
    rate = f"{100 * row['value']:.2f}"
    interval = _interval(row["ci95"], unknown="")
    return (name, rate, interval, *map(str, counts), str(row["reference_words"]))


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, every column as wide as its widest cell, all on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _speaker_interval(row: WerRow | ComparisonRow) -> str:
    """The interval by speaker, after that by utterance; "" where there is none."""
    ends = row.get("ci95_speakers")
    return "" if ends is None else f" (by speaker {_interval(ends)})"


def _interval(ends: Interval, *, unknown: str = "not known") -> str:
    return unknown if ends is None else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"

"""Compares several reports in one table: rates with intervals, and each system against the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechmm.errors import ManifestError
from speechmm.evaluation.html import render_html
from speechmm.evaluation.report_types import Report, TranslationComparison, load_report
from speechmm.evaluation.scoring import Scored, score_files
from speechmm.evaluation.significance import Comparison, compare_systems
from speechmm.evaluation.translation import METRICS, compare_translations
from speechmm.files.json_text import fits


@dataclass(frozen=True)
class Row:
    """One report."""

    name: str
    report: Report
    against_first: Comparison | None
    """This system against the first one; None for the first, and where the references differ."""
    translation_against_first: TranslationComparison | None = None
    """The same by BLEU and chrF, where both reports are of translations."""


def read_rows(paths: Sequence[Path]) -> list[Row]:
    """Reads the reports and compares each with the first.

    Args:
        paths: Folders written by ``speechmm score --out``, or the ``report.json`` in them.

    Raises:
        ManifestError: A report is missing or broken, or was scored with another normalizer.
    """
    folders = [path.parent if path.name == "report.json" else path for path in paths]
    reports = [load_report(folder / "report.json") for folder in folders]
    names = _names(folders)
    for folder, report in zip(folders, reports, strict=True):
        if report["normalizer"] != reports[0]["normalizer"]:
            raise ManifestError(
                f"{folder}: scored with the normalizer {report['normalizer']}, and {folders[0]} "
                f"with {reports[0]['normalizer']}; expected the same. Score one of them again."
            )
    speakers = {
        id: speaker for report in reports for id, speaker in _utterance_speakers(report).items()
    }
    first = _scored(folders[0])
    rows = [Row(names[0], reports[0], None)]
    for name, folder, report in zip(names[1:], folders[1:], reports[1:], strict=True):
        other = _scored(folder)
        comparison = translation = None
        if first is not None and other is not None and _same(first, other):
            names_said = [speakers.get(id, "") for id in first.ids]
            comparison = compare_systems(other.words, first.words, speakers=names_said)
            if all(map(_is_of_translations, (report, reports[0]))):
                translation = compare_translations(other, first)
        rows.append(Row(name, report, comparison, translation))
    return rows


def _is_of_translations(report: Report) -> bool:
    """Whether a report has BLEU and chrF."""
    shape = {name: {"score": float} for name in METRICS}
    return fits(report.get("translation"), shape)


def _utterance_speakers(report: Report) -> dict[str, str]:
    """Who says what; reports of earlier versions do not tell."""
    found = report.get("utterance_speakers")
    return found if fits(found, {str: str}) else {}


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _scored(folder: Path) -> Scored | None:
    """The utterances, from the texts beside a report; they are normalised already."""
    reference, hypothesis = folder / "ref.trn", folder / "hyp.trn"
    if not (reference.is_file() and hypothesis.is_file()):
        return None
    return score_files(hypothesis, reference, "verbatim")


def _same(first: Scored, other: Scored) -> bool:
    return first.ids == other.ids and first.references == other.references


HEAD = (
    "system", "WER %", "95 % interval", "sub", "del", "ins", "words", "CER %",
    "against the first, points", "p", "real-time factor",
)  # fmt: skip
SPEAKERS_HEAD = ("WER % by speaker", "against the first, by speaker")
"""Intervals by speaker, where they are known of any system."""
TRANSLATION_HEAD = (
    "BLEU, 95 % interval", "BLEU against the first", "chrF2, 95 % interval", "chrF2 against the first",
)  # fmt: skip
"""Where any system translates."""


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[list[str]]]:
    """The head and the lines of the table."""
    head, lines = HEAD, [cells(row) for row in rows]
    for more, of_row in (
        (TRANSLATION_HEAD, _translation_cells),
        (SPEAKERS_HEAD, _speaker_cells),
    ):
        found = [of_row(row) for row in rows]
        if any(map(any, found)):
            head = (*head, *more)
            lines = [[*line, *added] for line, added in zip(lines, found, strict=True)]
    return head, lines


def _translation_cells(row: Row) -> list[str]:
    """Scores of translations and how far they are above those of the first, "" where there are none."""
    if not _is_of_translations(row.report):
        return [""] * len(TRANSLATION_HEAD)
    found = []
    for name in METRICS:
        one = row.report["translation"][name]  # type: ignore[literal-required]
        found.append(f"{one['score']:.1f}{_interval(one.get('ci95'), '.1f')}")
        against = row.translation_against_first
        if against is None:
            found.append("")
            continue
        other = against[name]  # type: ignore[literal-required]
        found.append(f"{other['difference']:+.1f}{_interval(other['ci95'], '+.1f')}")
    return found


def _interval(ends: object, digits: str) -> str:
    """Behind a number; "" where it is not known."""
    if not isinstance(ends, list) or not fits(ends, [float]) or len(ends) != 2:
        return ""
    return f" ({ends[0]:{digits}} to {ends[1]:{digits}})"


def _speaker_cells(row: Row) -> list[str]:
    """The intervals by speaker, "" where there are none."""
    ends = row.report["wer"].get("ci95_speakers")
    against = None if row.against_first is None else row.against_first.ci95_speakers
    return [
        "" if ends is None else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}",
        "" if against is None else f"{100 * against[0]:+.2f} to {100 * against[1]:+.2f}",
    ]


def cells(row: Row) -> list[str]:
    """A line of the table, in the order of ``HEAD``."""
    wer, cer = row.report["wer"], row.report["cer"]
    difference = significance = ""
    if row.against_first is not None:
        one = row.against_first
        difference = f"{100 * one.wer_difference:+.2f}"
        if one.ci95 is not None:
            difference += f" ({100 * one.ci95[0]:+.2f} to {100 * one.ci95[1]:+.2f})"
        significance = f"{one.p_value:.4f}"
    rtf = row.report.get("rtf")
    ends = wer.get("ci95")
    return [
        row.name,
        f"{100 * wer['value']:.2f}",
        "" if ends is None else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}",
        str(wer["substitutions"]),
        str(wer["deletions"]),
        str(wer["insertions"]),
        str(wer["reference_words"]),
        f"{100 * cer['value']:.2f}",
        difference,
        significance,
        "" if rtf is None else f"{rtf:.4f}",
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    head, body = table(rows)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for line in body:
        shown = [cell.replace("|", "\\|") for cell in line]
        lines.append("| " + " | ".join(shown) + " |")
    note = (
        f"Normalizer {rows[0].report['normalizer']}. Differences from the first system, below 0 "
        "when better: paired bootstrap over utterances (and over speakers, which is the wider interval "
        "where speakers differ), and p of the matched-pair test (MAPSSWE)."
    )
    if any(_is_of_translations(row.report) for row in rows):
        note += " BLEU and chrF2 are from 0 to 100; their differences are above 0 when better."
    return "\n".join([*lines, "", note]) + "\n"


def page(rows: Sequence[Row]) -> str:
    """The table as one HTML page that loads nothing; every text in it is escaped."""
    worst = max(0.01, *((row.report["wer"].get("ci95") or [0, 0])[1] for row in rows))
    head, body = table(rows)
    return render_html(
        "compare.html.j2",
        head=head,
        rows=[(line, row.report["wer"]) for line, row in zip(body, rows, strict=True)],
        scale=100 / worst,
        normalizer=rows[0].report["normalizer"],
    )

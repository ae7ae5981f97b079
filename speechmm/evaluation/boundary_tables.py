"""Formats boundary errors as text: the table a command prints, and a section of RESULTS.md."""

from __future__ import annotations

from speechmm.evaluation.boundaries import THRESHOLDS_MS, BoundaryScore
from speechmm.evaluation.report_types import BoundaryRow, Interval, RangesRow
from speechmm.evaluation.results import text_table


def boundary_table(score: BoundaryScore) -> str:
    """A line for each kind of unit."""
    head = ("", "edges", "mean ms", "95 % interval", "median ms")
    rows = [(*head, *(f"<={limit} ms" for limit in THRESHOLDS_MS), "missing", "extra")]
    for kind, row in score.units.items():
        numbers = (
            _milliseconds(row["mean_ms"]),
            _interval(row),
            _milliseconds(row["median_ms"]),
            *(_within(row, limit) for limit in THRESHOLDS_MS),
        )
        rows.append(
            (kind, str(row["boundaries"]), *numbers, str(row["missing"]), str(row["extra"]))
        )
    lines = [*text_table(rows), f"{score.utterances} utterances"]
    lines += [
        f"95 % interval of {kind} edges by speaker: {_ends(row['ci95_ms_speakers'])} ms"
        for kind, row in score.units.items()
        if row["ci95_ms_speakers"] is not None
    ]
    lines += [
        f"ranges of {kind} edges: {_holding(row['ranges'])}"
        for kind, row in score.units.items()
        if row["ranges"] is not None
    ]
    return "\n".join(lines)


def boundary_lines(score: BoundaryScore, *, command: str, commit: str | None) -> list[str]:
    """The section of RESULTS.md."""
    lines = []
    for kind, row in score.units.items():
        if not row["boundaries"]:
            lines.append(f"- {kind} edges: none matched, {row['missing']} {kind}s missing")
            continue
        within = ", ".join(f"{limit} ms {_within(row, limit)}" for limit in THRESHOLDS_MS)
        lines += [
            f"- {kind} edges: mean error **{_milliseconds(row['mean_ms'])} ms** (95 % interval "
            f"{_interval(row)}{_by_speaker(row)}), median {_milliseconds(row['median_ms'])} ms, "
            f"{row['boundaries']} edges; {row['missing']} {kind}s missing, {row['extra']} extra",
            f"  - within {within}",
        ]
    return [
        *lines,
        f"- utterances: {score.utterances}, {len(score.missing)} without an alignment",
        f"- command: `{command}`",
        f"- commit: {commit or 'not known'}",
    ]


def _holding(ranges: RangesRow) -> str:
    quarters = ", ".join(f"{100 * one['holding']:.0f}" for one in ranges["quarters"])
    return (
        f"{100 * ranges['holding']:.1f} % of {ranges['edges']} hold the reference's, median length "
        f"{ranges['median_ms']:.0f} ms; by quarters, narrow to wide: {quarters} %"
    )


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _interval(row: BoundaryRow) -> str:
    return _ends(row["ci95_ms"])


def _by_speaker(row: BoundaryRow) -> str:
    ends = row["ci95_ms_speakers"]
    return "" if ends is None else f", by speaker {_ends(ends)}"


def _ends(ends: Interval) -> str:
    return "" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"


def _within(row: BoundaryRow, limit: int) -> str:
    share = row["within_ms"][str(limit)]
    return "" if share is None else f"{100 * share:.1f} %"

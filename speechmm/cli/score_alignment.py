"""``speechmm score-alignment``: boundary errors in milliseconds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.cli.arguments import CommandParser
from speechmm.cli.score import add_results_arguments, check_results_arguments
from speechmm.files.provenance import code_commit

if TYPE_CHECKING:
    from speechmm.evaluation.boundaries import BoundaryScore


def run(argv: list[str]) -> int:
    """Scores alignments against reference alignments."""
    arguments = _parser().parse_args(argv)
    check_results_arguments(arguments.results, arguments.title)
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.alignment_page import write_alignment_page
    from speechmm.evaluation.alignment_sets import read_alignment_set
    from speechmm.evaluation.boundaries import (
        boundary_lines,
        score_boundaries,
        write_boundary_report,
    )
    from speechmm.evaluation.results import write_results

    command = shlex.join(["speechmm", "score-alignment", *argv])
    score = score_boundaries(
        read_alignment_set(arguments.hypothesis), read_alignment_set(arguments.reference)
    )
    if arguments.out is not None:
        write_boundary_report(score, arguments.out, command=command)
        write_alignment_page(score, arguments.out / "alignment.html", command=command)
        print(f"report: {arguments.out / 'alignment.html'}", file=sys.stderr)
    if arguments.results is not None:
        lines = boundary_lines(score, command=command, commit=code_commit())
        write_results(arguments.results, arguments.title, lines)
    print(_table(score))
    for kind in score.not_compared:
        print(f"not compared: {kind}: only one side has it", file=sys.stderr)
    skipped = SkipReport()
    for id in score.missing:
        skipped.add(id, "it has no alignment; its units count as missing")
    for id in score.extra:
        skipped.add(id, "it has no reference; it is not counted")
    skipped.print(score.utterances + len(score.extra), noun="utterances")
    return skipped.exit_code


def _table(score: BoundaryScore) -> str:
    limits = ("10", "20", "25", "50", "100")
    head = ("", "edges", "mean ms", "95 % interval", "median ms")
    rows = [(*head, *(f"<={limit} ms" for limit in limits), "missing", "extra")]
    for kind, row in score.units.items():
        numbers: tuple[str, ...] = ("",) * (3 + len(limits))
        if row["boundaries"]:
            numbers = (
                f"{row['mean_ms']:.1f}",
                "{:.1f} to {:.1f}".format(*row["ci95_ms"]),
                f"{row['median_ms']:.1f}",
                *(f"{100 * row['within_ms'][limit]:.1f} %" for limit in limits),
            )
        rows.append(
            (kind, str(row["boundaries"]), *numbers, str(row["missing"]), str(row["extra"]))
        )
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, f"{score.utterances} utterances"])


def _parser() -> CommandParser:
    parser = CommandParser(
        "score-alignment",
        description="Errors of start and end times against a reference, in milliseconds.",
    )
    formats = "jsonl, ctm, TextGrid or folder of them, or cuts with alignments"
    parser.add_argument("hypothesis", type=Path, metavar="HYP", help=f"alignments: {formats}")
    parser.add_argument("reference", type=Path, metavar="REF", help="references, in any of these")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for alignment.json and the page alignment.html",
    )
    add_results_arguments(parser)
    return parser

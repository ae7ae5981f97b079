"""Runs ``speechmm score-alignment``: boundary errors in milliseconds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from speechmm.cli.arguments import CommandParser
from speechmm.cli.score import add_results_arguments, check_results_arguments
from speechmm.files.provenance import code_commit


def run(argv: list[str]) -> int:
    """Scores alignments against reference alignments."""
    arguments = _parser().parse_args(argv)
    check_results_arguments(arguments.results, arguments.title)
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.alignment_page import write_alignment_page
    from speechmm.evaluation.alignment_sets import read_alignment_set, speakers_of
    from speechmm.evaluation.boundaries import score_boundaries, write_boundary_report
    from speechmm.evaluation.boundary_tables import boundary_lines, boundary_table
    from speechmm.evaluation.results import write_results

    command = shlex.join(["speechmm", "score-alignment", *argv])
    score = score_boundaries(
        read_alignment_set(arguments.hypothesis),
        read_alignment_set(arguments.reference),
        speakers=speakers_of(arguments.reference),
    )
    if arguments.out is not None:
        write_boundary_report(score, arguments.out, command=command)
        write_alignment_page(score, arguments.out / "alignment.html", command=command)
        print(f"report: {arguments.out / 'alignment.html'}", file=sys.stderr)
    if arguments.results is not None:
        lines = boundary_lines(score, command=command, commit=code_commit())
        write_results(arguments.results, arguments.title, lines)
    print(boundary_table(score))
    for kind in score.not_compared:
        print(f"not compared: {kind}: only one side has it", file=sys.stderr)
    skipped = SkipReport()
    for id in score.missing:
        skipped.add(id, "it has no alignment; its units count as missing")
    for id in score.extra:
        skipped.add(id, "it has no reference; it is not counted")
    skipped.print(score.utterances + len(score.extra), noun="utterances")
    return skipped.exit_code


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

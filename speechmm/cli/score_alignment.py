"""``speechmm score-alignment``: boundary errors in milliseconds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from speechmm.cli.arguments import CommandParser
from speechmm.errors import ConfigError


def run(argv: list[str]) -> int:
    """Scores alignments against reference alignments."""
    arguments = _parser().parse_args(argv)
    if bool(arguments.results) != bool(arguments.title):
        raise ConfigError("--results and --title: only one is given; expected both. Add the other.")
    from speechmm.evaluation.boundaries import (
        boundary_lines,
        boundary_report,
        read_any,
        write_boundary_report,
    )

    command = shlex.join(["speechmm", "score-alignment", *argv])
    report = boundary_report(read_any(arguments.hypothesis), read_any(arguments.reference))
    report["command"] = command
    if arguments.out is not None:
        write_boundary_report(report, arguments.out)
    if arguments.results is not None:
        from speechmm.evaluation.results import write_results

        write_results(arguments.results, arguments.title, boundary_lines(report, command))
    for line in boundary_lines(report, command)[:-1]:
        print(line.removeprefix("- ").replace("**", ""))
    missing = report["missing_utterances"]
    for id in missing:
        print(f"skipped: {id}: it has no alignment", file=sys.stderr)
    if missing:
        total = report["utterances"] + len(missing)
        print(f"{len(missing)} of {total} utterances skipped", file=sys.stderr)
        return 3
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "score-alignment", description="Boundary errors of alignments in milliseconds."
    )
    formats = "jsonl, ctm, TextGrid folder, or cuts with alignments"
    parser.add_argument("hypothesis", type=Path, metavar="HYP", help=formats)
    parser.add_argument("reference", type=Path, metavar="REF", help=formats)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for alignment.json")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="RESULTS.md to write a section of"
    )
    parser.add_argument("--title", help="title of that section")
    return parser

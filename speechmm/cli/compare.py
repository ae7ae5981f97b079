"""Runs ``speechmm compare``: several reports in one table."""

from __future__ import annotations

import shlex
from pathlib import Path

from speechmm.cli.arguments import CommandParser
from speechmm.cli.score import add_results_arguments, check_results_arguments


def run(argv: list[str]) -> int:
    """Prints the table, and writes it where that is asked for."""
    arguments = _parser().parse_args(argv)
    check_results_arguments(arguments.results, arguments.title)
    from speechmm.evaluation.results import write_results
    from speechmm.evaluation.system_table import markdown, page, read_rows
    from speechmm.files.atomic import write_text

    rows = read_rows(arguments.reports)
    text = markdown(rows)
    if arguments.out is not None:
        is_page = arguments.out.suffix in (".html", ".htm")
        write_text(arguments.out, page(rows) if is_page else text)
    if arguments.results is not None:
        command = shlex.join(["speechmm", "compare", *argv])
        lines = [*text.splitlines(), "", f"- command: `{command}`"]
        write_results(arguments.results, arguments.title, lines)
    print(text, end="")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        description="Put reports side by side: rates with intervals, and each system against the "
        "first one.",
    )
    parser.add_argument(
        "reports",
        type=Path,
        nargs="+",
        metavar="REPORT",
        help="folders written by 'score --out', or report.json files in them",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write too: .html for a page, else Markdown",
    )
    add_results_arguments(parser)
    return parser

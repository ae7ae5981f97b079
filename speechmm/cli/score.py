"""``speechmm score``: word error rate report."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from speechmm.cli.arguments import CommandParser
from speechmm.errors import ConfigError


def run(argv: list[str]) -> int:
    """Scores transcripts against references."""
    arguments = _parser().parse_args(argv)
    if bool(arguments.results) != bool(arguments.title):
        raise ConfigError("--results and --title: only one is given; expected both. Add the other.")
    from speechmm.evaluation.report import add_comparison, make_report, score_files, write_report

    scored = score_files(arguments.hypothesis, arguments.reference, arguments.normalizer)
    report = make_report(
        scored,
        normalizer=arguments.normalizer,
        command=shlex.join(["speechmm", "score", *argv]),
        meta=_meta(arguments.hypothesis),
    )
    if arguments.against is not None:
        second = score_files(arguments.against, arguments.reference, arguments.normalizer)
        add_comparison(report, scored, second)
    if arguments.out is not None:
        write_report(report, scored, arguments.out)
    if arguments.results is not None:
        from speechmm.evaluation.results import wer_lines, write_results

        write_results(arguments.results, arguments.title, wer_lines(report))
    print(_table(report))
    for id in scored.missing:
        print(f"skipped: {id}: it has no hypothesis; its words count as deleted", file=sys.stderr)
    for id in scored.extra:
        print(f"skipped: {id}: it has no reference; it is not counted", file=sys.stderr)
    if scored.missing or scored.extra:
        count = len(scored.missing) + len(scored.extra)
        print(
            f"{count} of {len(scored.ids) + len(scored.extra)} utterances skipped", file=sys.stderr
        )
        return 3
    return 0


def _meta(hypothesis: Path) -> dict[str, Any]:
    path = hypothesis.with_name(f"{hypothesis.name}.meta.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(report: dict[str, Any]) -> str:
    rows = ["     rate %   95 % interval    S     D     I  hits   of"]
    for name in ("wer", "cer"):
        row = report[name]
        low, high = row["ci95"]
        rows.append(
            f"{name.upper()} {100 * row['value']:7.2f}   {100 * low:6.2f} to {100 * high:6.2f} "
            f"{row['substitutions']:5d} {row['deletions']:5d} {row['insertions']:5d} "
            f"{row['hits']:5d} {row['reference_words']:5d}"
        )
    ser = report["ser"]
    rows.append(f"SER {100 * ser['value']:7.2f}   {ser['wrong']} of {ser['utterances']} utterances")
    rows.append(f"normalizer: {report['normalizer']}")
    if "comparison" in report:
        other = report["comparison"]
        rows.append(
            f"second system: {100 * other['against']['value']:.2f} % "
            f"({100 * other['wer_difference']:+.2f} points, p = {other['p_value']:.4f}, "
            f"{other['test']})"
        )
    return "\n".join(rows)


def _parser() -> CommandParser:
    parser = CommandParser("score", description="Word error rate of transcripts.")
    parser.add_argument(
        "hypothesis",
        type=Path,
        metavar="HYP",
        help="transcripts: jsonl, trn, Kaldi text, plain lines or a cuts manifest",
    )
    parser.add_argument(
        "reference", type=Path, metavar="REF", help="references, in the same formats"
    )
    parser.add_argument(
        "--normalizer",
        choices=("verbatim", "basic", "english"),
        default="basic",
        help="what both texts go through first",
    )
    parser.add_argument(
        "--against", type=Path, metavar="HYP_B", help="a second system's transcripts to compare"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for report and trn files")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="RESULTS.md to write a section of"
    )
    parser.add_argument("--title", help="title of that section")
    return parser

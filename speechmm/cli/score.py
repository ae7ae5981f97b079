"""Runs ``speechmm score``: a word error rate report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.errors import ConfigError
from speechmm.files.provenance import code_commit, read_meta
from speechmm.options import BOOTSTRAP_DRAWS
from speechmm.text.languages import TASKS
from speechmm.text.normalize import DEFAULT_NORMALIZER, NORMALIZERS

if TYPE_CHECKING:
    from speechmm.evaluation.text_sets import TextSet


def run(argv: list[str]) -> int:
    """Scores transcripts against references."""
    arguments = _parser().parse_args(argv)
    check_results_arguments(arguments.results, arguments.title)
    if arguments.spoken is not None and arguments.out is None:
        raise ConfigError(
            "--spoken: has no effect without --out; expected both. Add the other, or leave it out."
        )
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.breakdowns import out_of_vocabulary
    from speechmm.evaluation.page import write_report
    from speechmm.evaluation.report import add_comparison, add_translation, make_report
    from speechmm.evaluation.results import wer_lines, wer_table, write_results
    from speechmm.evaluation.scoring import other_rates, score_files
    from speechmm.evaluation.spoken import read_spoken

    read = _reference_reader(arguments)
    texts = (arguments.reference, arguments.normalizer)
    scored = score_files(arguments.hypothesis, *texts, read=read)
    meta = read_meta(arguments.hypothesis)
    draws = {"draws": arguments.bootstrap_draws, "seed": arguments.bootstrap_seed}
    command = shlex.join(["speechmm", "score", *argv])
    report = make_report(scored, command=command, meta=meta, **draws)
    report["git_commit"] = report["git_commit"] or code_commit()
    if arguments.out is not None:
        report["other_normalizers"] = other_rates(arguments.hypothesis, *texts, read=read)
    if arguments.vocabulary:
        known = _vocabulary(arguments.vocabulary, arguments.normalizer)
        report["out_of_vocabulary"] = out_of_vocabulary(scored.words, known)
    if arguments.run is not None and not (arguments.run / "curves.png").is_file():
        raise ConfigError(
            f"--run: {arguments.run} has no curves.png; expected the folder of a training. "
            "Check the path, or leave it out."
        )
    second = None
    if arguments.against is not None:
        second = score_files(arguments.against, *texts, read=read)
        add_comparison(report, scored, second, **draws)
    if arguments.task == "translate":
        add_translation(report, scored, second, **draws)
    if arguments.out is not None:
        curves = None if arguments.run is None else arguments.run / "curves.png"
        spoken = [] if arguments.spoken is None else read_spoken(arguments.spoken)
        write_report(report, scored, arguments.out, against=second, curves=curves, spoken=spoken)
    if arguments.results is not None:
        write_results(arguments.results, arguments.title, wer_lines(report))
    print(wer_table(report))
    if arguments.out is not None:
        print(f"report: {arguments.out / 'report.html'}", file=sys.stderr)
    skipped = SkipReport()
    for one in (scored, *([second] if second else [])):
        for id in one.missing:
            skipped.add(f"{one.hypothesis}: {id}", "it has no hypothesis; its words are deletions")
        for id in one.extra:
            skipped.add(f"{one.hypothesis}: {id}", "it has no reference; it is not counted")
    skipped.print(len(scored.ids) + len(scored.extra), noun="utterances")
    return skipped.exit_code


def _reference_reader(arguments: Any) -> Callable[[Path], TextSet]:
    """Reads references, or the translations that are the references.

    Raises:
        ConfigError: A language to translate into is given, and nothing is translated.
    """
    from speechmm.evaluation.text_sets import read_text_set
    from speechmm.evaluation.translated_texts import read_translations

    if arguments.task == "translate":
        return partial(read_translations, language=arguments.target_language)
    if arguments.target_language is not None:
        raise ConfigError(
            "--target-language: has no effect without --task translate; expected both. Add the other, or "
            "leave it out."
        )
    return read_text_set


def _vocabulary(paths: list[Path], normalizer: str) -> set[str]:
    """The words of the training texts, normalised."""
    from speechmm.data.skips import SkipReport
    from speechmm.data.texts import read_texts
    from speechmm.text.normalize import normalize

    texts = {text for path in paths for text in read_texts(path, SkipReport(strict=True))}
    return {word for text in texts for word in normalize(text, normalizer).split()}


def check_results_arguments(results: Path | None, title: str | None) -> None:
    """Raise unless both or none are given."""
    if (results is None) != (title is None):
        raise ConfigError("--results and --title: only one is given; expected both. Add the other.")


def _parser() -> CommandParser:
    parser = CommandParser("score", description="Word error rate report of transcripts.")
    formats = (
        "cuts manifest, jsonl, trn, stm, ctm, Kaldi text, subtitles or TextGrid (one file, or a "
        "folder of them), or plain lines (matched by order)"
    )
    parser.add_argument("hypothesis", type=Path, metavar="HYP", help=f"transcripts: {formats}")
    parser.add_argument("reference", type=Path, metavar="REF", help="references, in any of these")
    parser.add_argument(
        "--normalizer",
        choices=tuple(NORMALIZERS),
        default=DEFAULT_NORMALIZER,
        help="what both texts go through first: verbatim changes white space only, multilingual drops "
        "case and punctuation (turkish: where I is the capital of ı), basic is that of earlier "
        "versions, english unifies numbers and contractions too",
    )
    parser.add_argument(
        "--task",
        choices=TASKS,
        default=TASKS[0],
        help="what was written: what is said (asr), or translations, which get BLEU and chrF, too; their "
        "references are the translations of REF where that is a cuts manifest",
    )
    parser.add_argument(
        "--target-language",
        metavar="CODE",
        help="language of the translations, where REF has several",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="HYP_B",
        help="transcripts of a second system; the difference is HYP minus HYP_B, below 0 when HYP "
        "is better",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for report.html, report.json, report.md, ref.trn and hyp.trn; without it only "
        "the table is printed",
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        help="run folder of the training, whose curves the page is to show",
    )
    parser.add_argument(
        "--spoken",
        type=Path,
        metavar="TIMES",
        help="jsonl that 'speechmm synthesize --times' wrote: the page plays what the model says",
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        nargs="+",
        default=[],
        metavar="TEXTS",
        help="texts the system was trained on (cuts manifests, or a sentence a line): the report "
        "then says how words fare that are not among them",
    )
    parser.add_argument(
        "--bootstrap-draws",
        type=PositiveInt,
        default=BOOTSTRAP_DRAWS,
        help="draws for the 95-percent intervals",
    )
    parser.add_argument(
        "--bootstrap-seed", type=NonNegativeInt, default=0, help="random seed of these draws"
    )
    add_results_arguments(parser)
    return parser


def add_results_arguments(parser: CommandParser) -> None:
    """Adds the options for a recipe's RESULTS.md."""
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="Markdown file, such as RESULTS.md, to write a section of; needs --title",
    )
    parser.add_argument(
        "--title", help="title of that section; a section of the same title is replaced"
    )

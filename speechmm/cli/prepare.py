"""Runs ``speechmm prepare``: a corpus becomes manifests for train, dev and test."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.data.corpora.catalog import CORPORA, Corpus, find_corpus, prepare_splits
from speechmm.data.corpora.options import Option
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError, SpeechmmError

if TYPE_CHECKING:
    from lhotse import MonoCut

    from speechmm.data.prepared import PreparedCorpus

logger = logging.getLogger(__name__)

NOT_SETTINGS = ("root", "out", "strict", "num_workers")  # they do not change a good result


def run(argv: list[str]) -> int:
    """Prepares a corpus; leaves up-to-date manifests alone."""
    name, rest = _take_corpus(argv)
    corpus = find_corpus(name)
    arguments = _parser(corpus).parse_args(rest).as_dict()
    from speechmm.data.prepared import read_unchanged, write_corpus
    from speechmm.files.writable import check_folder

    root, out = _folders(corpus, arguments)
    source = root if corpus.needs_root else out / "audio"
    shar = arguments["shar"]
    unset = ("shar",) if shar is None else ()
    values = {k: value for k, value in arguments.items() if k not in (*NOT_SETTINGS, *unset)}
    settings = {"corpus": name, "root": str(root)}
    settings |= {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
    report = SkipReport(strict=arguments["strict"])
    summary = read_unchanged(out, settings=settings, source=source, strict=report.strict)
    if summary is not None:
        logger.info("%s: up to date", out)
        for remark in summary["remarks"]:
            report.remark(remark)
        report.items = [(row["item"], row["reason"]) for row in summary["skipped"]]
    else:
        check_folder(out)
        splits = _prepare(name, root, report, arguments)
        extra = [path.absolute() for path in values.values() if isinstance(path, Path)]
        summary = write_corpus(
            splits, out, report, settings=settings, source=source, extra=extra, shar=shar
        )
    _print_table(summary)
    total = sum(split["utterances"] for split in summary["splits"].values())
    report.print(total + len(report), noun="utterances")
    return report.exit_code


def _take_corpus(argv: list[str]) -> tuple[str, list[str]]:
    """The corpus's name and the other arguments; help of all corpora when none is named."""
    for place, word in enumerate(argv):
        if word in CORPORA:
            return word, argv[:place] + argv[place + 1 :]
    parser = CommandParser("prepare", description=_overview())
    parser.add_argument("corpus", choices=list(CORPORA), metavar="CORPUS", help="one of the above")
    parser.add_argument(
        "root", nargs="?", metavar="ROOT", help="folder of the corpus; none for synth"
    )
    parser.add_argument("out", nargs="?", metavar="OUT", help="folder to write the manifests to")
    parser.parse_args(argv)  # prints the help, or says that there is no such corpus
    raise ConfigError(f"expected a corpus: {', '.join(CORPORA)}. Run 'speechmm prepare --help'.")


def _overview() -> str:
    listed = " ".join(f"{name}: {find_corpus(name).about}." for name in CORPORA)
    return (
        "Turn a corpus into manifests: OUT/train.jsonl.gz, dev, test and prepare.json; with --shar N also "
        "into archives of N utterances. "
        f"'speechmm prepare CORPUS --help' lists its options. {listed}"
    )


def _parser(corpus: Corpus) -> CommandParser:
    parser = CommandParser(f"prepare {corpus.name}", description=f"{corpus.name}: {corpus.about}.")
    if corpus.needs_root:
        parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the corpus")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder for {train,dev,test}.jsonl.gz, prepare.json"
    )
    for option in corpus.options:
        _add_option(parser, option)
    parser.add_argument(
        "--shar",
        type=PositiveInt,
        metavar="N",
        help="also write OUT/{train,dev,test}.shar: lhotse Shar, the audio in archives of N utterances, "
        "such as 1000, to be read from beginning to end",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad utterance"
    )
    return parser


def _add_option(parser: CommandParser, option: Option) -> None:
    kind: dict[str, Any] = {"choices": option.choices} if option.choices else {"type": option.type}
    parser.add_argument(
        option.flag, **kind, default=option.default, metavar=option.metavar, help=option.help
    )


def _folders(corpus: Corpus, arguments: dict[str, Any]) -> tuple[Path, Path]:
    """The corpus's folder and the output's, absolute."""
    out: Path = arguments["out"].absolute()
    root: Path = arguments.get("root", out).absolute()
    if corpus.needs_root and not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise ConfigError(f"{root}: found {found}; expected the corpus's folder. Check the path.")
    if corpus.needs_root and root.resolve() == out.resolve():
        raise ConfigError(
            f"{out}: is the corpus itself; expected another folder for the manifests."
        )
    return root, out


def _prepare(
    name: str, root: Path, report: SkipReport, arguments: dict[str, Any]
) -> dict[str, list[MonoCut]]:
    options = {k: v for k, v in arguments.items() if k not in ("root", "out", "strict", "shar")}
    try:
        return prepare_splits(name, root, report, options)
    except SpeechmmError:
        report.print(None, noun="utterances")
        raise


def _print_table(summary: PreparedCorpus) -> None:
    print(f"{'split':<12}{'utterances':>11}{'hours':>9}{'speakers':>10}")
    for split, row in summary["splits"].items():
        speakers = row["speakers"] or "?"
        print(f"{split:<12}{row['utterances']:>11}{row['hours']:>9.2f}{speakers:>10}")

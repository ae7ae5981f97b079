"""``speechmm prepare``: a corpus becomes manifests for train, dev and test."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechmm.cli.arguments import CommandParser
from speechmm.data.corpora.catalog import CORPORA
from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from speechmm.data.prepared import PreparedCorpus

logger = logging.getLogger(__name__)

NOT_SETTINGS = ("root", "out", "strict", "num_workers")  # they do not change a good result


def run(argv: list[str]) -> int:
    """Prepares a corpus; leaves up-to-date manifests alone."""
    corpus, rest = _take_corpus(argv)
    arguments = _parser(corpus).parse_args(rest).as_dict()
    from speechmm.data.prepared import check_writable, read_unchanged, write_corpus
    from speechmm.data.skips import SkipReport

    root, out = _folders(corpus, arguments)
    source = out / "audio" if corpus == "synth" else root
    values = {name: value for name, value in arguments.items() if name not in NOT_SETTINGS}
    settings = {"corpus": corpus, "root": str(root)}
    settings |= {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
    report = SkipReport(strict=arguments["strict"])
    summary = read_unchanged(out, settings=settings, source=source, strict=report.strict)
    if summary is not None:
        logger.info("%s: up to date", out)
        report.items = [(row["item"], row["reason"]) for row in summary["skipped"]]
    else:
        check_writable(out)
        splits = _prepare(corpus, root, report, arguments)
        extra = [path.absolute() for path in values.values() if isinstance(path, Path)]
        summary = write_corpus(splits, out, report, settings=settings, source=source, extra=extra)
    _print_table(summary)
    total = sum(split["utterances"] for split in summary["splits"].values())
    report.print(total + len(report), noun="utterances")
    return report.exit_code


def _take_corpus(argv: list[str]) -> tuple[str, list[str]]:
    """The corpus's name and the other arguments; help of all corpora when none is named."""
    for place, word in enumerate(argv):
        if word in CORPORA:
            return word, argv[:place] + argv[place + 1 :]
    parser = CommandParser("prepare", description=_OVERVIEW)
    parser.add_argument("corpus", choices=list(CORPORA), metavar="CORPUS", help="one of the above")
    parser.add_argument(
        "root", nargs="?", metavar="ROOT", help="folder of the corpus; none for synth"
    )
    parser.add_argument("out", nargs="?", metavar="OUT", help="folder to write the manifests to")
    parser.parse_args(argv)  # prints the help, or says that there is no such corpus
    raise ConfigError(f"expected a corpus: {', '.join(CORPORA)}. Run 'speechmm prepare --help'.")


_OVERVIEW = "Turn a corpus into manifests: OUT/train.jsonl.gz, dev, test and prepare.json. " + (
    "'speechmm prepare CORPUS --help' lists its options. "
    + " ".join(f"{name}: {summary}." for name, summary in CORPORA.items())
)


def _parser(corpus: str) -> CommandParser:
    parser = CommandParser(f"prepare {corpus}", description=f"{corpus}: {CORPORA[corpus]}.")
    if corpus != "synth":
        parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the corpus")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder for {train,dev,test}.jsonl.gz, prepare.json"
    )
    _add_options(parser, corpus)
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad utterance"
    )
    return parser


def _add_options(parser: CommandParser, corpus: str) -> None:
    add = parser.add_argument
    if corpus == "synth":
        from speechmm.data.corpora.synth.grammar import SPLIT_SIZES

        for split, size in SPLIT_SIZES.items():
            add(f"--{split}", type=int, default=size, help=f"utterances in {split}, about 3 s each")
        add("--seed", type=int, default=0, help="another one gives another corpus")
        add(
            "--num-workers", type=int, help="processes; as many as cores, 4 at most, when not given"
        )
        return
    if corpus == "fsdd":
        add("--leave-out", metavar="SPEAKER", help="the test is all of this speaker")
    if corpus == "folder":
        add(
            "--transcripts",
            type=Path,
            metavar="FILE",
            help="table of transcripts; found when not given",
        )
        add(
            "--speakers",
            choices=("auto", "table", "none"),
            default="auto",
            help="who speaks: the table says, or else the folders (auto); the table; nobody knows",
        )
    if corpus in ("folder", "kaldi"):
        for split in ("dev", "test"):
            text = f"share of the seconds for {split} where the corpus has none, in [0, 1)"
            add(f"--{split}", type=float, default=0.1, help=text)
        add("--seed", type=int, default=0, help="another one draws other dev and test sets")
        add(
            "--language",
            metavar="CODE",
            help="language spoken, such as en, where the corpus is silent",
        )
    add(
        "--check",
        choices=("full", "header"),
        default="full",
        help="decode all audio, which finds damage, or only open it",
    )


def _folders(corpus: str, arguments: dict[str, Any]) -> tuple[Path, Path]:
    """The corpus's folder and the output's, absolute."""
    out: Path = arguments["out"].absolute()
    root: Path = arguments.get("root", out).absolute()
    if corpus != "synth" and not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise ConfigError(f"{root}: found {found}; expected the corpus's folder. Check the path.")
    if corpus != "synth" and root.resolve() == out.resolve():
        raise ConfigError(
            f"{out}: is the corpus itself; expected another folder for the manifests."
        )
    return root, out


def _prepare(corpus: str, root: Path, report: Any, arguments: dict[str, Any]) -> Any:
    from speechmm.data.corpora.catalog import prepare_splits
    from speechmm.errors import SpeechmmError

    options = {k: v for k, v in arguments.items() if k not in ("root", "out", "strict")}
    try:
        return prepare_splits(corpus, root, report, options)
    except SpeechmmError:
        report.print(None, noun="utterances")
        raise


def _print_table(summary: PreparedCorpus) -> None:
    print(f"{'split':<12}{'utterances':>11}{'hours':>9}{'speakers':>10}")
    for split, row in summary["splits"].items():
        speakers = row["speakers"] or "?"
        print(f"{split:<12}{row['utterances']:>11}{row['hours']:>9.2f}{speakers:>10}")

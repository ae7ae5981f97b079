"""Runs ``speechmm features``: log-mel features and their statistics, stored."""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse.typing import NonNegativeInt, PositiveInt

from speechmm.cli.arguments import CommandParser


def run(argv: list[str]) -> int:
    """Makes a feature store, or leaves alone one that is up to date."""
    arguments = _parser().parse_args(argv)
    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.data.features import store_features
    from speechmm.data.skips import SkipReport

    config = LogMelConfig(sample_rate=arguments.sample_rate, n_mels=arguments.n_mels)
    skipped = SkipReport(strict=arguments.strict)
    summary = store_features(
        arguments.cuts, arguments.out, config, skipped, num_workers=arguments.num_workers
    )
    if summary.unchanged:
        print(f"{arguments.out}: up to date", file=sys.stderr)
    else:
        print(f"{arguments.out}: features of {summary.stored} utterances")
    skipped.print(summary.stored + len(skipped), noun="utterances")
    return skipped.exit_code


def _parser() -> CommandParser:
    parser = CommandParser("features", description="Store log-mel features and their statistics.")
    parser.add_argument(
        "cuts",
        type=Path,
        nargs="+",
        metavar="CUTS",
        help="cuts manifests (.jsonl, .jsonl.gz, folders of lhotse Shar); the statistics are those of the "
        "first",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--sample-rate", type=PositiveInt, default=16000, metavar="HZ", help="of the features, Hz"
    )
    parser.add_argument(
        "--n-mels", type=PositiveInt, default=80, metavar="N", help="mel bands per 10 ms frame"
    )
    parser.add_argument(
        "--num-workers",
        type=NonNegativeInt,
        default=0,
        metavar="N",
        help="processes that compute; 0 computes in the main one",
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad utterance"
    )
    return parser

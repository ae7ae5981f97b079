"""``speechmm features``: store log-mel features and their statistics."""

from __future__ import annotations

import sys
from pathlib import Path

from jsonargparse.typing import PositiveInt

from speechmm.cli.arguments import CommandParser


def run(argv: list[str]) -> int:
    """Makes or leaves alone a feature store."""
    arguments = _parser().parse_args(argv)
    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.data.features import store_features
    from speechmm.data.manifest import read_cuts
    from speechmm.data.skips import SkipReport

    config = LogMelConfig(sample_rate=arguments.sample_rate, n_mels=arguments.n_mels)
    skipped = SkipReport(strict=arguments.strict)
    if not store_features(arguments.cuts, arguments.out, config, skipped):
        print(f"{arguments.out}: up to date", file=sys.stderr)
        return 0
    stored = sum(len(read_cuts(arguments.out / path.name)) for path in arguments.cuts)
    print(f"{arguments.out}: features of {stored} utterances")
    skipped.print(stored + len(skipped), noun="utterances")
    return skipped.exit_code


def _parser() -> CommandParser:
    parser = CommandParser("features", description="Store log-mel features and their statistics.")
    parser.add_argument(
        "cuts",
        type=Path,
        nargs="+",
        metavar="CUTS",
        help="cuts manifests; the statistics are those of the first",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--sample-rate", type=PositiveInt, default=16000, help="Hz")
    parser.add_argument("--n-mels", type=PositiveInt, default=80, help="mel bands")
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad utterance"
    )
    return parser

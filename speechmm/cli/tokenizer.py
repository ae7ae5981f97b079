"""``speechmm tokenizer``: train a text tokenizer on the texts of a manifest."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from speechmm.cli.arguments import CommandParser

KINDS = ("char", "bpe", "unigram", "phone")


def run(argv: list[str]) -> int:
    """Trains and writes one tokenizer file; leaves an up-to-date one alone."""
    arguments = _parser().parse_args(argv)
    from speechmm.data.manifest import cut_text, read_cuts
    from speechmm.data.skips import SkipReport
    from speechmm.text.tokenizer import train_tokenizer

    skipped = SkipReport(strict=arguments.strict)
    made_from = _made_from(arguments)
    if _unchanged(arguments.out, made_from):
        print(f"{arguments.out}: up to date", file=sys.stderr)
        return 0
    texts = []
    for path in arguments.cuts:
        for cut in read_cuts(path, skipped):
            text = cut_text(cut)
            if text.strip():
                texts.append(text)
            else:
                skipped.add(cut.id, "its text is empty")
    tokenizer = train_tokenizer(
        texts,
        kind=arguments.kind,
        vocab_size=arguments.vocab_size,
        normalizer=arguments.normalizer,
        language=arguments.language,
    )
    tokenizer.save(arguments.out, made_from=made_from)
    print(f"{arguments.out}: {tokenizer.kind}, {tokenizer.vocab_size} entries, {len(texts)} texts")
    skipped.print(len(texts) + len(skipped), noun="utterances")
    return skipped.exit_code


def _made_from(arguments: Any) -> dict[str, Any]:
    files = [Path(path) for path in arguments.cuts]
    return {
        "inputs": [
            [str(path), path.stat().st_size, path.stat().st_mtime_ns]
            for path in files
            if path.is_file()
        ],
        "kind": arguments.kind,
        "vocab_size": arguments.vocab_size,
        "normalizer": arguments.normalizer,
        "language": arguments.language,
    }


def _unchanged(out: Path, made_from: dict[str, Any]) -> bool:
    try:
        found = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("made_from") == made_from


def _parser() -> CommandParser:
    parser = CommandParser("tokenizer", description="Train a text tokenizer.")
    parser.add_argument(
        "cuts", type=Path, nargs="+", metavar="CUTS", help="cuts manifests with the training texts"
    )
    parser.add_argument("--kind", choices=KINDS, default="char", help="what a token is")
    parser.add_argument(
        "--vocab-size",
        type=PositiveInt,
        help="entries in all, for bpe and unigram; at most 500 when not given",
    )
    parser.add_argument(
        "--normalizer",
        choices=("verbatim", "basic", "english"),
        default="basic",
        help="what every text goes through first",
    )
    parser.add_argument(
        "--language", default="en-us", help="espeak-ng voice for the phones of kind phone"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad utterance"
    )
    return parser

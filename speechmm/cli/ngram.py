"""Runs ``speechmm ngram``: learns a word n-gram model from texts and writes it as an ARPA file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.text.normalize import DEFAULT_NORMALIZER, NORMALIZERS


def run(argv: list[str]) -> int:
    """Learns and writes one model."""
    arguments = _parser().parse_args(argv)
    from speechmm.data.skips import SkipReport
    from speechmm.data.texts import read_texts
    from speechmm.text.ngram import estimate_ngrams
    from speechmm.text.normalize import normalize

    skipped: Any = SkipReport(strict=arguments.strict)
    texts = [text for path in arguments.texts for text in read_texts(path, skipped)]
    model = estimate_ngrams(
        (normalize(text, arguments.normalizer) for text in texts), order=arguments.order
    )
    model.write(arguments.out)
    words = len(model.vocabulary)
    print(f"{arguments.out}: {len(model.log_probs)} n-grams of {words} words, {len(texts)} texts")
    skipped.print(len(texts) + len(skipped), noun="texts")
    code: int = skipped.exit_code
    return code


def _parser() -> CommandParser:
    parser = CommandParser(
        "ngram", description="Learn a word n-gram model, for 'transcribe --lm', as an ARPA file."
    )
    parser.add_argument(
        "texts",
        type=Path,
        nargs="+",
        metavar="TEXTS",
        help="cuts manifests (.jsonl, .jsonl.gz, folders of lhotse Shar), or text files with one sentence "
        "a line",
    )
    parser.add_argument("--order", type=PositiveInt, default=3, help="words in an n-gram")
    parser.add_argument(
        "--normalizer",
        choices=tuple(NORMALIZERS),
        default=DEFAULT_NORMALIZER,
        help="what every text goes through first; as the model's tokenizer",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="ARPA file to write, plain or .gz"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad text"
    )
    return parser

"""Runs ``speechmm tokenizer``: trains a text tokenizer on the texts of manifests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.files.json_text import SKIPPED, fits
from speechmm.files.shar import cut_files
from speechmm.files.stamps import is_current, make_record, make_stamp, read_record
from speechmm.text.borrowed_pieces import vocabulary_files
from speechmm.text.normalize import DEFAULT_NORMALIZER, NORMALIZERS
from speechmm.text.tokenizer import KINDS
from speechmm.text.tokenizer_training import DEFAULT_LANGUAGE, DEFAULT_VOCAB_SIZE

_SETTINGS = ("kind", "vocab_size", "normalizer", "language")
"""Flags that decide about the tokenizer, beside the texts."""
_SAID_AGAIN = {"texts": int, "skipped": SKIPPED}


def run(argv: list[str]) -> int:
    """Trains and writes one tokenizer file, or leaves alone one that is up to date."""
    arguments = _parser().parse_args(argv)
    if arguments.language is not None and arguments.kind != "phone":
        raise ConfigError(
            f"--language: found {arguments.language} with --kind {arguments.kind}; expected it "
            "with --kind phone only, where it says how words are pronounced. Leave it out."
        )
    skipped = SkipReport(strict=arguments.strict)
    if arguments.pieces_of is not None and arguments.kind != "bpe":
        raise ConfigError(
            f"--pieces-of: found {arguments.pieces_of} with --kind {arguments.kind}; expected it with "
            "--kind bpe only, which its pieces are. Choose that."
        )
    settings = {name: arguments[name] for name in _SETTINGS}
    if arguments.pieces_of is not None:
        settings["pieces_of"] = str(arguments.pieces_of)
    if not arguments.translations:  # files of before, which have no such setting, stay up to date
        settings["translations"] = False
    read = [file for path in arguments.cuts for file in cut_files(path)]
    if arguments.pieces_of is not None:
        read += vocabulary_files(arguments.pieces_of)
    stamp = make_stamp(settings, read)
    previous: Any = read_record(arguments.out).get("made_from")
    if is_current(previous, stamp, arguments.out.parent) and fits(previous, _SAID_AGAIN):
        skipped.add_dicts(previous["skipped"])
        texts = previous["texts"]
        print(f"{arguments.out}: up to date", file=sys.stderr)
    else:
        texts = _train(arguments, settings, stamp, skipped)
    skipped.print(texts + len(skipped), noun="utterances")
    return skipped.exit_code


def _train(arguments: Any, settings: dict[str, Any], stamp: str, skipped: SkipReport) -> int:
    """Writes the tokenizer; returns how many texts it learned from."""
    from speechmm.alignments.kinds import kind_of
    from speechmm.data.manifest import cut_text, cut_translations, read_cuts
    from speechmm.data.texts import read_texts
    from speechmm.text.multilingual import has_dotless_i
    from speechmm.text.tokenizer_training import train_tokenizer

    texts: list[str] = []
    translated: list[str] = []
    for path in arguments.cuts:
        if kind_of(path) not in ("cuts", "jsonl"):
            texts += read_texts(path, skipped)
            continue
        for cut in read_cuts(path, skipped):
            if cut_text(cut).strip():
                texts.append(cut_text(cut))
                translated += cut_translations(cut).values() if arguments.translations else ()
            else:
                skipped.add(cut.id, "its text is empty")
    tokenizer = train_tokenizer(
        texts + translated,
        kind=arguments.kind,
        vocab_size=arguments.vocab_size,
        normalizer=arguments.normalizer,
        language=arguments.language or DEFAULT_LANGUAGE,
        pieces_of=arguments.pieces_of,
    )
    if arguments.normalizer == "multilingual" and has_dotless_i(texts):
        print(
            "some texts have İ, ı or ğ: if they are in a language whose capital of ı is I, such as "
            "Turkish or Azerbaijani, give --normalizer turkish",
            file=sys.stderr,
        )
    content = {
        "settings": {"inputs": [str(path) for path in arguments.cuts], **settings},
        "texts": len(texts),
        "skipped": skipped.to_dicts(),
    }
    tokenizer.save(arguments.out, made_from=make_record(stamp, content))
    more = f" and {len(translated)} translations" if translated else ""
    print(
        f"{arguments.out}: {tokenizer.kind}, {tokenizer.vocab_size} entries, {len(texts)} texts{more}"
    )
    return len(texts)


def _parser() -> CommandParser:
    parser = CommandParser("tokenizer", description="Train a text tokenizer.")
    parser.add_argument(
        "cuts",
        type=Path,
        nargs="+",
        metavar="CUTS",
        help="cuts manifests with the training texts, or files of texts, a sentence a line",
    )
    parser.add_argument("--kind", choices=KINDS, default="char", help="what a token is")
    parser.add_argument(
        "--vocab-size",
        type=PositiveInt,
        metavar="N",
        help=f"entries in all, for bpe and unigram; at most {DEFAULT_VOCAB_SIZE} when not given",
    )
    parser.add_argument(
        "--pieces-of",
        type=Path,
        metavar="FOLDER",
        help="pieces of the Whisper model in this folder that the letters of the texts make up, so that "
        "fit can take over its decoder; for bpe. All of them when --vocab-size is not given",
    )
    parser.add_argument(
        "--normalizer",
        choices=tuple(NORMALIZERS),
        default=DEFAULT_NORMALIZER,
        help="what every text goes through first; the model writes what it leaves",
    )
    parser.add_argument(
        "--language",
        metavar="L",
        help=f"espeak-ng voice for the phones of kind phone; {DEFAULT_LANGUAGE} when not given",
    )
    parser.add_argument(
        "--no-translations",
        dest="translations",
        action="store_false",
        help="learn from what is said alone, not from its translations",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="JSON file to write"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop with exit code 2 at the first bad utterance"
    )
    return parser

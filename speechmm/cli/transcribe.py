"""``speechmm transcribe``: audio to text, subtitles or time-marked words."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.cli.decoding import (
    add_model_arguments,
    find_inputs,
    load_model,
    require_some,
    show_progress,
)
from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from speechmm.data.skips import SkipReport
    from speechmm.inference.recognition.beam_search import SearchOptions
    from speechmm.inference.recognition.fusion.scorers import Scorer
    from speechmm.models.bundle import Bundle

LISTENING = {
    "lm": ("lm_weight", 0.3),
    "hotwords": ("hotword_bonus", 1.0),
    "words": ("word_price", 3.0),
}
"""What a search may listen to, each with the flag of how much, and its default."""
FORMATS = ("text", "jsonl", "srt", "vtt", "ctm", "trn", "textgrid")


def run(argv: list[str]) -> int:
    """Transcribes audio files, folders and manifests, in their order."""
    arguments = _parser().parse_args(argv)
    options = _options(arguments)
    from speechmm.data.skips import SkipReport
    from speechmm.files.provenance import write_meta
    from speechmm.inference.recognition.run_info import describe_run
    from speechmm.inference.recognition.transcriber import Transcriber
    from speechmm.inference.recognition.writers import FORMATS_WITHOUT_TIMES, write_transcripts

    skipped = SkipReport(strict=arguments.strict)
    sources = find_inputs(arguments.inputs, skipped)
    total = len(sources) + len(skipped)
    if arguments.out is None and arguments.format in ("srt", "vtt") and len(sources) > 1:
        raise ConfigError(
            f"--format {arguments.format}: {len(sources)} inputs and no --out; expected a folder "
            "for the subtitles of several inputs. Add --out FOLDER."
        )
    began = time.perf_counter()
    bundle = load_model(arguments)
    loading = time.perf_counter() - began
    transcriber = Transcriber(
        bundle,
        options=options,
        scorers=_scorers(arguments, bundle, skipped),
        batch_seconds=arguments.batch_seconds,
        word_times=arguments.format not in FORMATS_WITHOUT_TIMES,
        device=arguments.device,
    )
    began = time.perf_counter()
    found = transcriber.transcribe_sources(sources, skipped=skipped)
    hidden = arguments.out is None and sys.stdout.isatty()
    shown = show_progress(found, len(sources), "transcribing", hidden=hidden)
    results = require_some(shown, skipped)
    audio_seconds = write_transcripts(results, arguments.out, arguments.format)
    if arguments.out is not None and arguments.format == "jsonl":
        meta = describe_run(
            bundle,
            options,
            fusion=_listening(arguments),
            command=shlex.join(["speechmm", "transcribe", *argv]),
            audio_seconds=audio_seconds,
            seconds=time.perf_counter() - began,
            parts={"loading the model": loading, **transcriber.seconds},
        )
        write_meta(arguments.out, meta)
    skipped.print(total)
    return skipped.exit_code


def _parser() -> CommandParser:
    parser = CommandParser("transcribe", description="Write down what is said in audio.")
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        metavar="INPUT",
        help="audio files, folders of them, or cuts manifests (.jsonl, .jsonl.gz)",
    )
    add_model_arguments(parser)
    parser.add_argument("--format", choices=FORMATS, default="text", help="what to write")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="file to write instead of stdout; a folder for textgrid, and for srt and vtt unless "
        "PATH ends in .srt or .vtt (one input only)",
    )
    parser.add_argument("--beam", type=PositiveInt, default=1, help="hypotheses kept; 1 is fastest")
    parser.add_argument(
        "--decoder",
        choices=("ctc", "attention", "joint"),
        default="joint",
        help="which scores count",
    )
    parser.add_argument(
        "--ctc-weight",
        type=ClosedUnitInterval,
        help="share of CTC in the joint score, 0 to 1 (default: 0.3)",
    )
    parser.add_argument(
        "--length-bonus",
        type=float,
        default=0.0,
        help="added to the score per token (natural log), against too short results",
    )
    parser.add_argument(
        "--n-best",
        type=PositiveInt,
        default=1,
        metavar="N",
        help='texts per utterance, at most the beam; jsonl has them as "alternatives"',
    )
    _add_scorers(parser)
    return parser


def _add_scorers(parser: CommandParser) -> None:
    parser.add_argument(
        "--lm",
        type=Path,
        metavar="PATH",
        help="language model to listen to: an ARPA file of word n-grams, plain or .gz, or the "
        "bundle folder of a trained one",
    )
    parser.add_argument(
        "--lm-weight",
        type=NonNegativeFloat,
        help=f"weight of its log-probabilities (default: {LISTENING['lm'][1]})",
    )
    parser.add_argument(
        "--hotwords",
        metavar="FILE_OR_LIST",
        help="phrases to expect: a text file with one a line, or phrases separated by commas",
    )
    parser.add_argument(
        "--hotword-bonus",
        type=NonNegativeFloat,
        help=f"added to the score per token of a phrase, natural log (default: {LISTENING['hotwords'][1]})",
    )
    parser.add_argument(
        "--words",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="words of the language, one a line, or texts or cuts manifests whose words are meant: "
        "other words become dearer",
    )
    parser.add_argument(
        "--word-price",
        type=NonNegativeFloat,
        help="taken off the score per word that is not listed, natural log "
        f"(default: {LISTENING['words'][1]})",
    )


def _scorers(arguments: Namespace, bundle: Bundle, skipped: SkipReport) -> list[Scorer]:
    """What the search listens to besides the model."""
    from speechmm.inference.recognition.fusion.scorers import HotwordScorer, load_language_scorer

    found: list[Scorer] = []
    if arguments.lm is not None:
        found.append(load_language_scorer(arguments.lm, bundle.tokenizer, arguments.lm_weight))
    if arguments.hotwords is not None:
        phrases = _phrases(arguments.hotwords)
        found.append(HotwordScorer(phrases, bundle.tokenizer, arguments.hotword_bonus))
    if arguments.words is not None:
        from speechmm.data.texts import read_texts
        from speechmm.inference.recognition.fusion.lexicon import WordListScorer

        texts = (text for path in arguments.words for text in read_texts(path, skipped))
        found.append(WordListScorer(texts, bundle.tokenizer, arguments.word_price))
    return found


def _listening(arguments: Namespace) -> dict[str, Any]:
    """Precision, language model, phrases and words, for the description of the results."""
    found: dict[str, Any] = {}
    if arguments.quantize is not None:
        found["quantize"] = arguments.quantize
    if arguments.lm is not None:
        found |= {"lm": str(arguments.lm), "lm_weight": arguments.lm_weight}
    if arguments.hotwords is not None:
        found |= {"hotwords": arguments.hotwords, "hotword_bonus": arguments.hotword_bonus}
    if arguments.words is not None:
        words = [str(path) for path in arguments.words]
        found |= {"words": words, "word_price": arguments.word_price}
    return found


def _phrases(file_or_list: str) -> list[str]:
    """The lines of a file of that name, else what stands between commas."""
    path = Path(file_or_list)
    try:
        lines = path.read_text("utf-8").splitlines() if path.is_file() else file_or_list.split(",")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"--hotwords: {path} is not UTF-8 ({error.reason} at byte {error.start}); expected a "
            "text file with one phrase a line. Convert it."
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _options(arguments: Namespace) -> SearchOptions:
    """The search options; all flags are checked, and defaults set, before anything slow happens."""
    if arguments.format == "textgrid" and arguments.out is None:
        raise ConfigError(
            "--format textgrid: no --out; expected a folder for the TextGrid files. "
            "Add --out FOLDER."
        )
    if arguments.ctc_weight is not None and arguments.decoder != "joint":
        raise ConfigError(
            f"--ctc-weight: has no effect with --decoder {arguments.decoder}; expected --decoder "
            "joint. Leave one of the two out."
        )
    for source, (flag, default) in LISTENING.items():
        given = getattr(arguments, source) is not None
        if getattr(arguments, flag) is None:
            setattr(arguments, flag, default)
        elif not given:
            raise ConfigError(
                f"--{flag.replace('_', '-')}: has no effect without --{source}; expected both. "
                "Add the other, or leave it out."
            )
        if given and arguments.decoder == "ctc":
            raise ConfigError(
                f"--{source}: greedy CTC does not search; expected --decoder joint or attention. "
                "Change --decoder."
            )
    from speechmm.inference.recognition.beam_search import SearchOptions

    weight = {} if arguments.ctc_weight is None else {"ctc_weight": arguments.ctc_weight}
    return SearchOptions(
        decoder=arguments.decoder,
        beam=arguments.beam,
        length_bonus=arguments.length_bonus,
        n_best=arguments.n_best,
        **weight,
    )

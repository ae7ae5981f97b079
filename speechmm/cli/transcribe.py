"""Runs ``speechmm transcribe``: audio to text, subtitles or time-marked words."""

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
    DECODER_HELP,
    Flagged,
    add_channel_argument,
    add_model_arguments,
    find_inputs,
    load_model,
    name_flagged,
    note_flagged,
    require_some,
    search_options,
    show_progress,
)
from speechmm.errors import ConfigError
from speechmm.inference.recognition.options import (
    DECODERS,
    FUSION_WEIGHTS,
    FusionOptions,
    SearchOptions,
)
from speechmm.options import TRANSCRIPT_FORMATS, TRANSLATION_FORMATS
from speechmm.text.languages import TASKS

if TYPE_CHECKING:
    pass


def run(argv: list[str]) -> int:
    """Transcribes audio files, folders and manifests, in their order."""
    arguments = _parser().parse_args(argv)
    if arguments.out == Path("-"):
        arguments.out = None
    options, fusion = search_options(arguments), _fusion_options(arguments)
    _check_alternatives(arguments)
    _check_translated(arguments)
    _check_folder_for_textgrids(arguments)
    from speechmm.data.skips import SkipReport
    from speechmm.files.provenance import write_meta
    from speechmm.inference.recognition.fusion.load import load_scorers
    from speechmm.inference.recognition.run_info import describe_run
    from speechmm.inference.recognition.transcriber import Transcriber
    from speechmm.inference.recognition.writers import FORMATS_WITHOUT_TIMES, write_transcripts

    skipped = SkipReport(strict=arguments.strict)
    sources = find_inputs(arguments.inputs, skipped, channel=arguments.channel)
    total = len(sources) + len(skipped)
    _check_folder_for_subtitles(arguments, len(sources))
    unread = SkipReport(strict=arguments.strict)
    began = time.perf_counter()
    bundle = load_model(arguments)
    loading_seconds = time.perf_counter() - began
    transcriber = Transcriber(
        bundle,
        options=options,
        scorers=load_scorers(fusion, bundle.tokenizer, skipped=unread),
        batch_seconds=arguments.batch_seconds,
        word_times=arguments.format not in FORMATS_WITHOUT_TIMES,
        device=arguments.device,
    )
    began = time.perf_counter()
    flagged: list[Flagged] = []
    transcripts = note_flagged(transcriber.transcribe_sources(sources, skipped=skipped), flagged)
    hidden = arguments.out is None and sys.stdout.isatty()
    shown = show_progress(transcripts, len(sources), "transcribing", hidden=hidden)
    audio_seconds = write_transcripts(
        require_some(shown, skipped), arguments.out, arguments.format, skipped
    )
    if arguments.out is not None and arguments.format == "jsonl":
        meta = describe_run(
            bundle,
            transcriber.options,
            fusion=_precision(arguments) | fusion.settings(),
            command=shlex.join(["speechmm", "transcribe", *argv]),
            audio_seconds=audio_seconds,
            seconds=time.perf_counter() - began,
            parts={"loading the model": loading_seconds, **transcriber.seconds},
        )
        write_meta(arguments.out, meta)
    unread.print(None, noun="lines of --words")
    name_flagged(flagged, skipped, total, noun="inputs")  # a doubt about a text, which is written
    return skipped.exit_code or unread.exit_code


def _check_alternatives(arguments: Namespace) -> None:
    if arguments.n_best > 1 and arguments.format != "jsonl":
        raise ConfigError(
            f"--n-best: --format {arguments.format} has one result per utterance; expected --format jsonl. "
            "Change the format, or leave it out."
        )


def _fusion_options(arguments: Namespace) -> FusionOptions:
    """The external scores that are asked for.

    Raises:
        ConfigError: A weight is given without what it weighs, or the decoder takes no such scores.
    """
    given: dict[str, Any] = {}
    for source, weight in FUSION_WEIGHTS.items():
        value, how_much = getattr(arguments, source), getattr(arguments, weight)
        if value is None and how_much is not None:
            raise ConfigError(
                f"--{weight.replace('_', '-')}: has no effect without --{source}; expected both. "
                "Add the other, or leave it out."
            )
        if value is not None and arguments.decoder == "ctc":
            raise ConfigError(
                f"--{source}: greedy CTC does not search; expected --decoder joint or attention. "
                "Change --decoder."
            )
        if value is not None:
            given[source] = tuple(value) if source == "words" else value
        if how_much is not None:
            given[weight] = how_much
    return FusionOptions(**given)


def _check_translated(arguments: Namespace) -> None:
    if arguments.task == "translate" and arguments.format not in TRANSLATION_FORMATS:
        raise ConfigError(
            f"--format {arguments.format}: translations have no times of words; expected one of "
            f"{', '.join(TRANSLATION_FORMATS)}. Choose one of these."
        )


def _check_folder_for_textgrids(arguments: Namespace) -> None:
    if arguments.format == "textgrid" and arguments.out is None:
        raise ConfigError(
            "--format textgrid: no --out; expected a folder for the TextGrid files. "
            "Add --out FOLDER."
        )


def _check_folder_for_subtitles(arguments: Namespace, inputs: int) -> None:
    if arguments.out is None and arguments.format in ("srt", "vtt") and inputs > 1:
        raise ConfigError(
            f"--format {arguments.format}: {inputs} inputs and no --out; expected a folder "
            "for the subtitles of several inputs. Add --out FOLDER."
        )


def _precision(arguments: Namespace) -> dict[str, str]:
    """The precision of the weights, for the description of the run."""
    return {} if arguments.quantize is None else {"quantize": arguments.quantize}


def _parser() -> CommandParser:
    parser = CommandParser(
        "transcribe", description="Transcribe audio to text, subtitles or time-marked words."
    )
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        metavar="INPUT",
        help="audio files, folders of them, cuts manifests (.jsonl, .jsonl.gz) or lhotse Shar; - is "
        "standard input",
    )
    add_channel_argument(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--format", choices=TRANSCRIPT_FORMATS, default="text", help="what to write"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="file to write instead of stdout (-); a folder for textgrid, and for srt and vtt unless "
        "PATH ends in .srt or .vtt (one input only)",
    )
    parser.add_argument(
        "--beam",
        type=PositiveInt,
        default=SearchOptions.beam,
        help="hypotheses kept; 1 is fastest",
    )
    parser.add_argument(
        "--decoder",
        choices=DECODERS,
        help=DECODER_HELP,
    )
    parser.add_argument(
        "--ctc-weight",
        type=ClosedUnitInterval,
        help="share of the CTC prefix score in the joint score, 0 to 1 "
        f"(default: {SearchOptions.ctc_weight})",
    )
    parser.add_argument(
        "--length-bonus",
        type=float,
        default=SearchOptions.length_bonus,
        help="added to the score per token (natural log), against too short results",
    )
    parser.add_argument(
        "--align-weight",
        type=NonNegativeFloat,
        default=SearchOptions.align_weight,
        help="rank all hypotheses of the beam once more: weight of the log-likelihood of the audio given "
        "each text, by the alignment head (natural log)",
    )
    parser.add_argument(
        "--n-best",
        type=PositiveInt,
        default=SearchOptions.n_best,
        metavar="N",
        help="results per utterance, at most the beam, where it is not cut into parts; jsonl has them as "
        '"alternatives"',
    )
    parser.add_argument(
        "--no-speech-gate",
        dest="speech_gate",
        action="store_false",
        help="search silence and noise, too, where the model hears nobody speak",
    )
    _add_language_arguments(parser)
    _add_fusion_arguments(parser)
    return parser


def _add_language_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--task",
        choices=TASKS,
        default=SearchOptions.task,
        help="asr writes what is said, translate the same in another language",
    )
    parser.add_argument(
        "--language",
        metavar="CODE",
        help="language that is spoken, such as de, of a model of several; the decoder tells when not given",
    )
    parser.add_argument(
        "--target-language",
        metavar="CODE",
        help="language to translate into, of a model that knows several",
    )


def _add_fusion_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--lm",
        type=Path,
        metavar="PATH",
        help="language model to fuse (shallow fusion): an ARPA file of word n-grams, plain or .gz, "
        "or the bundle folder of a neural one",
    )
    parser.add_argument(
        "--lm-weight",
        type=NonNegativeFloat,
        help="weight of the language model's log-probabilities "
        f"(default: {FusionOptions.lm_weight})",
    )
    parser.add_argument(
        "--hotwords",
        metavar="FILE_OR_LIST",
        help="phrases to boost (contextual biasing): a text file with one a line, or phrases "
        "separated by commas",
    )
    parser.add_argument(
        "--hotword-bonus",
        type=NonNegativeFloat,
        help="added to the score per token of a phrase, natural log "
        f"(default: {FusionOptions.hotword_bonus})",
    )
    parser.add_argument(
        "--words",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="lexicon: words one a line, or texts or cuts manifests whose words are meant; all "
        "other words get the out-of-lexicon penalty",
    )
    parser.add_argument(
        "--oov-penalty",
        type=NonNegativeFloat,
        help="out-of-lexicon penalty, taken off the score per word that is not in --words, natural "
        f"log (default: {FusionOptions.oov_penalty})",
    )
    parser.add_alias("--word-price", "--oov-penalty")

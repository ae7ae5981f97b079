"""``speechmm transcribe``: audio to text, subtitles or time-marked words."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import ClosedUnitInterval, PositiveInt

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
    from speechmm.inference.search import SearchOptions

FORMATS = ("text", "jsonl", "srt", "vtt", "ctm", "trn", "textgrid")


def run(argv: list[str]) -> int:
    """Transcribes audio files, folders and manifests, in their order."""
    arguments = _parser().parse_args(argv)
    options = _options(arguments)
    from speechmm.data.skips import SkipReport
    from speechmm.inference.provenance import write_meta
    from speechmm.inference.transcriber import Transcriber
    from speechmm.inference.transcript_files import FORMATS_WITHOUT_TIMES, write_transcripts

    skipped = SkipReport(strict=arguments.strict)
    sources = find_inputs(arguments.inputs, skipped)
    total = len(sources) + len(skipped)
    if arguments.out is None and arguments.format in ("srt", "vtt") and len(sources) > 1:
        raise ConfigError(
            f"--format {arguments.format}: {len(sources)} inputs and no --out; expected a folder "
            "for the subtitles of several inputs. Add --out FOLDER."
        )
    bundle = load_model(arguments)
    transcriber = Transcriber(
        bundle,
        options=options,
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
        write_meta(
            arguments.out,
            bundle,
            options,
            command=shlex.join(["speechmm", "transcribe", *argv]),
            audio_seconds=audio_seconds,
            seconds=time.perf_counter() - began,
        )
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
    return parser


def _options(arguments: Namespace) -> SearchOptions:
    """The search options, checked with all other flags before anything slow happens."""
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
    from speechmm.inference.search import SearchOptions

    weight = {} if arguments.ctc_weight is None else {"ctc_weight": arguments.ctc_weight}
    return SearchOptions(decoder=arguments.decoder, beam=arguments.beam, **weight)

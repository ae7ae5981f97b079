"""Runs ``speechmm pseudo-label``: transcripts of unlabelled audio that are good enough to train on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.cli.decoding import (
    DECODER_HELP,
    add_channel_argument,
    add_model_arguments,
    find_inputs,
    load_model,
    require_files,
    search_options,
    show_progress,
)
from speechmm.errors import ConfigError, ManifestError
from speechmm.inference.recognition.options import DECODERS, SearchOptions
from speechmm.options import MANIFEST_SUFFIXES

if TYPE_CHECKING:
    from speechmm.inference.recognition.pseudo_labels import Labelled


def run(argv: list[str]) -> int:
    """Transcribes, aligns and compares, and writes cuts of what agrees."""
    arguments = _parser().parse_args(argv)
    options = search_options(arguments)
    if not arguments.out.name.endswith(MANIFEST_SUFFIXES):
        raise ConfigError(
            f"--out: found {str(arguments.out)!r}; expected a name that ends in "
            f"{' or '.join(MANIFEST_SUFFIXES)}. Choose one."
        )
    from speechmm.data.manifest import write_cuts
    from speechmm.data.skips import SkipReport
    from speechmm.files.writable import check_file
    from speechmm.inference.alignment.aligner import Aligner
    from speechmm.inference.recognition.pseudo_labels import Agreement, PseudoLabeller
    from speechmm.inference.recognition.transcriber import Transcriber

    for path in (arguments.out, arguments.report):
        check_file(path)
    agreement = Agreement(
        confidence=arguments.min_confidence,
        alignment=arguments.min_alignment,
        durations=arguments.max_duration_error,
    )
    skipped = SkipReport(strict=arguments.strict)
    sources = find_inputs(arguments.inputs, skipped, channel=arguments.channel)
    total = len(sources) + len(skipped)
    require_files(sources, arguments.out)
    bundle = load_model(arguments)
    shared = {"batch_seconds": arguments.batch_seconds, "device": arguments.device}
    labeller = PseudoLabeller(
        bundle,
        Transcriber(bundle, options=options, word_times=False, **shared),
        Aligner(bundle, **shared),
        agreement,
    )
    labelled = labeller.label(sources, skipped)
    found = list(show_progress(labelled, len(sources), "labelling", hidden=False))
    kept = [one for one in found if not one.reason]
    if arguments.report is not None:
        _write_report(found, arguments.report)
    if not kept:
        skipped.print(total)
        raise ManifestError(
            f"--out: no transcript of {total} is believed ({_reasons(found) or 'none was read'}); "
            "expected some. Lower --min-confidence and --min-alignment, or train longer first."
        )
    write_cuts((one.cut() for one in kept), arguments.out)
    print(f"kept {len(kept)} of {len(found)} transcripts")
    if len(kept) < len(found):
        print(f"dropped: {_reasons(found)}")
    skipped.print(total)
    return skipped.exit_code


def _reasons(found: Sequence[Labelled]) -> str:
    """How many were dropped for each reason, the most frequent first."""
    counts = Counter(one.reason for one in found if one.reason)
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())


def _write_report(found: Sequence[Labelled], path: Path) -> None:
    """A row for each utterance: what was measured, and why it was dropped."""
    from speechmm.files.atomic import write_text

    rows = [
        {
            "id": one.source.id,
            "text": one.transcript.text,
            "confidence": _rounded(one.transcript.confidence),
            "alignment": None if one.alignment is None else _rounded(one.alignment.confidence),
            "flags": [*one.transcript.flags, *(one.alignment.flags if one.alignment else ())],
            "duration_error": _rounded(one.duration_error),
            "dropped": one.reason or None,
        }
        for one in found
    ]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _parser() -> CommandParser:
    parser = CommandParser(
        "pseudo-label",
        description="Transcribe unlabelled audio, and keep the transcripts that recognition, alignment "
        "and (if the model speaks) its voice agree on, to train on them with data.mix.",
    )
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        metavar="INPUT",
        help="audio files, folders of them, cuts manifests (.jsonl, .jsonl.gz) or lhotse Shar; texts "
        "that they have are not looked at",
    )
    add_channel_argument(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="cuts manifest (.jsonl, .jsonl.gz) of what is kept",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="JSON lines of all utterances: transcript, what was measured, why it was dropped",
    )
    _add_thresholds(parser)
    _add_search_arguments(parser)
    return parser


def _add_thresholds(parser: CommandParser) -> None:
    parser.add_argument(
        "--min-confidence",
        type=ClosedUnitInterval,
        default=0.8,
        help="least confidence of recognition, the geometric mean of the tokens, or of the words of a "
        "calibrated model; 0 to 1",
    )
    parser.add_argument(
        "--min-alignment",
        type=ClosedUnitInterval,
        default=0.3,
        help="least mean probability of 10 ms frames by the alignment head, given the transcript, 0 to 1; "
        "transcripts that 'align' flags are dropped anyway",
    )
    parser.add_argument(
        "--max-duration-error",
        type=NonNegativeFloat,
        default=0.6,
        help="of a model that speaks: largest mean error of log(1 + frames) of tokens, as they were said "
        "and as its voice says them",
    )


def _add_search_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--decoder",
        choices=DECODERS,
        help=DECODER_HELP,
    )
    parser.add_argument(
        "--beam", type=PositiveInt, default=SearchOptions.beam, help="hypotheses kept; 1 is fastest"
    )
    parser.add_argument(
        "--ctc-weight",
        type=ClosedUnitInterval,
        help=f"share of the CTC prefix score, 0 to 1 (default: {SearchOptions.ctc_weight})",
    )
    parser.add_argument(
        "--length-bonus",
        type=float,
        default=SearchOptions.length_bonus,
        help="added to the score per token (natural log)",
    )
    parser.add_argument(
        "--align-weight",
        type=NonNegativeFloat,
        default=SearchOptions.align_weight,
        help="rank all hypotheses of the beam once more, as in 'transcribe'",
    )

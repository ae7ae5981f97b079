"""Runs ``speechmm calibrate``: calibrates a bundle's word confidences on a set with texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import ClosedUnitInterval, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.cli.decoding import DECODER_HELP, search_options
from speechmm.errors import ConfigError, ManifestError
from speechmm.inference.recognition.options import DECODERS, SearchOptions

if TYPE_CHECKING:
    from speechmm.data.skips import SkipReport

FEWEST_WORDS = 30


def run(argv: list[str]) -> int:
    """Transcribes, compares with the references, and writes scale and bias into the bundle."""
    arguments = _parser().parse_args(argv)
    options = search_options(arguments)
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.calibration import (
        expected_calibration_error,
        fit_calibration,
    )
    from speechmm.inference.recognition.confidence import Calibration
    from speechmm.models.bundle import read_bundle_config, set_confidence
    from speechmm.models.bundle_config import ConfidenceInfo

    options = options.by_heads(read_bundle_config(arguments.bundle).heads)
    skipped = SkipReport()
    confidences, correct = _recognised_words(arguments, options, skipped)
    if len(confidences) < FEWEST_WORDS:
        raise ManifestError(
            f"{arguments.cuts}: {len(confidences)} words were recognised; expected at least "
            f"{FEWEST_WORDS} to learn from. Give more speech."
        )
    if not any(correct):
        raise ManifestError(
            f"{arguments.cuts}: none of {len(correct)} recognised words is right; expected some, for "
            "confidences to mean anything. Check the texts, or train the model longer."
        )
    scale, bias = fit_calibration(confidences, correct)
    before = expected_calibration_error(confidences, correct)
    # What it does to words it has not seen: learned from every other word, measured on the rest.
    held_out = Calibration(*fit_calibration(confidences[::2], correct[::2]))
    after = expected_calibration_error([held_out(c) for c in confidences[1::2]], correct[1::2])
    found = ConfidenceInfo(
        scale=round(scale, 5),
        bias=round(bias, 5),
        words=len(confidences),
        correct=sum(correct),
        expected_calibration_error=round(before, 5),
        calibrated_error_held_out=round(after, 5),
    )
    set_confidence(arguments.bundle, options.searched_by, found)
    print(
        f"{arguments.bundle}: {sum(correct)} of {len(correct)} words right; confidence was off by "
        f"{100 * before:.1f} points on average, calibrated by {100 * after:.1f} (words held out)"
    )
    return skipped.exit_code


def _recognised_words(
    arguments: Any, options: SearchOptions, skipped: SkipReport
) -> tuple[list[float], list[bool]]:
    from speechmm.evaluation.report import confidence_targets
    from speechmm.evaluation.scoring import score_sets
    from speechmm.evaluation.text_sets import read_text_set, text_set_of
    from speechmm.inference.engine.sources import find_sources
    from speechmm.inference.recognition.transcriber import Transcriber
    from speechmm.models.bundle import load_bundle

    bundle = load_bundle(arguments.bundle)
    if bundle.tokenizer.kind == "phone":
        raise ConfigError(
            f"{arguments.bundle}: it writes phones, which {arguments.cuts} has none of; expected a model "
            "that writes words. Take one whose tokenizer is of another kind."
        )
    bundle.confidence.clear()  # what is learned is what to do to confidences as they come
    transcriber = Transcriber(bundle, options=options)
    sources = find_sources([arguments.cuts], skipped)
    total = len(sources) + len(skipped)
    found = transcriber.transcribe_sources(sources, skipped=skipped)
    hypotheses = text_set_of(found, str(arguments.cuts))
    scored = score_sets(hypotheses, read_text_set(arguments.cuts), bundle.tokenizer.normalizer)
    skipped.print(total)
    return confidence_targets(scored)


def _parser() -> CommandParser:
    parser = CommandParser(
        "calibrate",
        description="Make word confidences mean what they say: learns from a set with texts, best "
        "the dev set, how often words of a confidence are right, and writes that into the bundle.",
    )
    parser.updated = ("bundle",)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle folder of the model")
    parser.add_argument("cuts", type=Path, metavar="CUTS", help="cuts manifest with texts")
    parser.add_argument(
        "--beam", type=PositiveInt, default=SearchOptions.beam, help="hypotheses kept"
    )
    parser.add_argument(
        "--decoder",
        choices=DECODERS,
        help=DECODER_HELP,
    )
    parser.add_argument(
        "--ctc-weight",
        type=ClosedUnitInterval,
        help=f"share of CTC in the joint score, 0 to 1 (default: {SearchOptions.ctc_weight})",
    )
    return parser

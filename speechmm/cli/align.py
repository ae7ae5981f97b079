"""Runs ``speechmm align``: finds when each word and character of a given text was said."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat

from speechmm.cli.arguments import CommandParser
from speechmm.cli.corpus_alignment import (
    add_learning_arguments,
    align_corpus,
    corpus_aligner,
    uses_corpus_aligner,
)
from speechmm.cli.decoding import (
    Flagged,
    add_channel_argument,
    add_model_arguments,
    find_inputs,
    load_model,
    name_flagged,
    note_flagged,
    require_files,
    require_some,
    show_progress,
)
from speechmm.errors import ConfigError
from speechmm.options import ALIGNERS, ALIGNMENT_FORMATS, EDIT_PENALTY, MANIFEST_SUFFIXES

if TYPE_CHECKING:
    from lhotse import MonoCut

    from speechmm.alignments import Alignment
    from speechmm.inference.alignment.aligner import Aligner
    from speechmm.inference.engine.sources import Source
    from speechmm.models.bundle import Bundle

FORMATS = (*ALIGNMENT_FORMATS, "cuts")


def run(argv: list[str]) -> int:
    """Aligns audio to its text and writes when each unit was said."""
    arguments = _parser().parse_args(argv)
    _check_out(arguments.out, arguments.format)
    _check_aligner(arguments)
    if arguments.frame_shift is not None and arguments.format != "durations":
        raise ConfigError(
            f"--frame-shift: has no effect with --format {arguments.format}; expected it with "
            "--format durations. Leave one of the two out."
        )
    without_recogniser = uses_corpus_aligner(arguments)
    if arguments.ranges and arguments.format != "textgrid":
        raise ConfigError(
            f"--ranges: has no effect with --format {arguments.format}; expected it with --format "
            "textgrid. Leave it out."
        )
    from speechmm.data.skips import SkipReport

    skipped = SkipReport(strict=arguments.strict)
    sources = find_inputs([arguments.input], skipped, channel=arguments.channel)
    if arguments.format == "cuts":
        require_files(sources, arguments.out)
    if arguments.text is not None:
        sources = _with_text(sources, arguments.text)
    total = len(sources) + len(skipped)
    units = None if arguments.unit is None else arguments.unit.split(",")
    if arguments.learn:
        _check_writable(arguments.out, arguments.format)
    if without_recogniser:
        learned = corpus_aligner(arguments, sources, skipped)
        frame_shift = learned.features.frame_shift
        alignments = align_corpus(learned, sources, skipped, units=units)
    else:
        bundle = load_model(arguments)
        frame_shift = bundle.features.frame_shift
        alignments = _aligner(arguments, bundle, units).align_sources(sources, skipped=skipped)
    flagged: list[Flagged] = []
    found = note_flagged(alignments, flagged)
    shown = show_progress(found, len(sources), "aligning", hidden=False)
    aligned = require_some(shown, skipped)
    if arguments.format == "cuts":
        _write_cuts(sources, aligned, arguments.out)
    else:
        from speechmm.alignments import write_alignments

        shift = arguments.frame_shift or frame_shift
        write_alignments(
            aligned,
            arguments.out,
            arguments.format,
            frame_shift=shift,
            ranges=arguments.ranges,
        )
    return name_flagged(flagged, skipped, total, noun="inputs")


def _aligner(arguments: Namespace, bundle: Bundle, units: Sequence[str] | None) -> Aligner:
    """The aligner that a bundle and the flags make."""
    from speechmm.inference.alignment.aligner import Aligner
    from speechmm.inference.alignment.plot import PictureFolder
    from speechmm.inference.alignment.transcript_edits import EditPenalties

    if arguments.edit_penalty != EDIT_PENALTY:
        bundle.require_heads(["ctc"], "--edit-penalty")
    return Aligner(
        bundle,
        units=units,
        kind=arguments.aligner,
        label_prior=arguments.label_prior or 0.0,
        penalties=EditPenalties.equal(arguments.edit_penalty),
        batch_seconds=arguments.batch_seconds,
        device=arguments.device,
        observer=None if arguments.pictures is None else PictureFolder(arguments.pictures),
    )


def _parser() -> CommandParser:
    parser = CommandParser(
        "align", description="Find when each word and character of a given text was said."
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="INPUT",
        help="an audio file, a folder of them, a cuts manifest (.jsonl, .jsonl.gz) or lhotse Shar; - is "
        "standard input",
    )
    add_channel_argument(parser)
    add_model_arguments(parser, required=False)
    add_learning_arguments(parser)
    parser.add_argument(
        "--text",
        metavar="FILE_OR_STRING",
        help="what is said: a text file, or the words themselves; when not given, the manifest's "
        "text, or that of the .txt or .lab file beside the audio",
    )
    _add_aligner_arguments(parser)
    _add_output_arguments(parser)
    return parser


def _add_aligner_arguments(parser: CommandParser) -> None:
    """Adds what is placed, by what, and from where on the text is called wrong."""
    parser.add_argument(
        "--unit",
        metavar="UNIT,...",
        help="units to write: word, and char or phone as the bundle's tokenizer has it; both when "
        "not given",
    )
    parser.add_argument(
        "--aligner",
        choices=ALIGNERS,
        default=ALIGNERS[0],
        help="what places the units: the alignment head (10 ms), or CTC; either way CTC has its part "
        "in confidences and flags",
    )
    parser.add_argument(
        "--label-prior",
        type=ClosedUnitInterval,
        help="with --aligner ctc: how much of the label prior is divided out, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--edit-penalty",
        type=NonNegativeFloat,
        default=EDIT_PENALTY,
        metavar="NATS",
        help="penalty of an edit of the text: a word is flagged where the audio is likelier by more "
        "than this without it or with other speech in its place; choose it higher for a weak "
        "recogniser ('check-flags --penalties' shows what it does)",
    )
    parser.add_alias("--doubt-price", "--edit-penalty")


def _add_output_arguments(parser: CommandParser) -> None:
    parser.add_argument("--format", choices=FORMATS, default="textgrid", help="what to write")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="file for ctm, jsonl and cuts (.jsonl, .jsonl.gz); for srt, vtt and ass a file when "
        "PATH ends so (one input only); otherwise a folder; - writes one file to stdout",
    )
    parser.add_argument(
        "--frame-shift",
        type=_seconds_of_a_frame,
        metavar="SECONDS",
        help="with --format durations: from one frame to the next, as a number or as a fraction such "
        "as 256/22050 (hop/rate); the bundle's when not given",
    )
    parser.add_argument(
        "--ranges",
        action="store_true",
        help="with --format textgrid: beside each tier one of points, which say between which times each "
        "edge lies in eight of ten cases; jsonl has that anyway",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="with --aligner head: folder for a picture per input: spectrogram, words, soft "
        "alignment (PNG)",
    )


def _seconds_of_a_frame(text: str) -> float:
    """A number of seconds, or a fraction; argparse makes a line of its error."""
    try:
        seconds = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        seconds = 0.0
    if not 1e-4 <= seconds <= 1.0:
        raise ArgumentTypeError(
            f"found {text!r}; expected 0.0001 to 1 s, such as 0.0125 or 256/22050"
        )
    return seconds


def _check_out(out: Path, format: str) -> None:
    if out == Path("-") and format in ("textgrid", "durations", "cuts"):
        raise ConfigError(
            f"--out -: --format {format} is not written to stdout; expected ctm, jsonl, srt, vtt or "
            "ass. Name a file or folder, or choose another format."
        )
    if format == "cuts" and not out.name.endswith(MANIFEST_SUFFIXES):
        raise ConfigError(
            f"--out: found {str(out)!r}; expected a name that ends in "
            f'{" or ".join(MANIFEST_SUFFIXES)} for --format cuts. Name it "{out.name}.jsonl.gz".'
        )


def _check_writable(out: Path, format: str) -> None:
    """Before a long time of learning."""
    from speechmm.files.writable import check_file, check_folder

    if format in ("jsonl", "ctm", "cuts"):
        check_file(out)
    elif out != Path("-"):
        check_folder(out.parent)


def _check_aligner(arguments: Namespace) -> None:
    """Refuses what the other aligner alone heeds."""
    for name, aligner in (("label_prior", "ctc"), ("pictures", "head")):
        if getattr(arguments, name) is not None and arguments.aligner != aligner:
            raise ConfigError(
                f"--{name.replace('_', '-')}: has no effect with --aligner {arguments.aligner}; "
                f"expected --aligner {aligner}. Leave one of the two out."
            )


def _with_text(sources: list[Source], text: str) -> list[Source]:
    """The one source with the text given on the command line."""
    from speechmm.files.pipes import is_readable
    from speechmm.files.text import read_text

    if len(sources) != 1:
        raise ConfigError(
            f"--text: the input has {len(sources)} utterances; expected one. Leave --text out, and "
            "put the texts into the manifest or into .txt files beside the audio."
        )
    path = Path(text)
    return [replace(sources[0], text=read_text(path) if is_readable(path) else text)]


def _write_cuts(sources: Sequence[Source], alignments: Iterable[Alignment], out: Path) -> None:
    """Writes every alignment as a lhotse cut, one after another as they come.

    A source that was a cut stays that cut; an audio file becomes a cut of all of it.
    """
    from speechmm.data.aligned_cuts import with_alignment
    from speechmm.data.manifest import write_cuts

    by_id = {source.id: source for source in sources}

    def aligned_cut(alignment: Alignment) -> MonoCut:
        source = by_id[alignment.id]
        text = source.transcript()
        return with_alignment(source.as_cut(" ".join(text.split())), alignment, text=text)

    write_cuts(map(aligned_cut, alignments), out)

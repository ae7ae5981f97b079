"""Runs ``speechmm synthesize``: text to speech, with the times of words and tokens."""

from __future__ import annotations

from argparse import Namespace
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jsonargparse.typing import NonNegativeInt, PositiveFloat

from speechmm.cli.arguments import CommandParser
from speechmm.cli.decoding import (
    Flagged,
    add_model_arguments,
    load_model,
    name_flagged,
    require_some,
    show_progress,
)
from speechmm.data.skips import SkipReport, named_failure
from speechmm.errors import ConfigError, ManifestError
from speechmm.files.pipes import STDIN
from speechmm.options import ALIGNMENT_FORMATS, MANIFEST_SUFFIXES

if TYPE_CHECKING:
    from lhotse import MonoCut

    from speechmm.alignments import Alignment
    from speechmm.inference.synthesis.synthesizer import Synthesizer

AUDIO_SUFFIXES = (".wav", ".flac")
STDOUT = Path("-")


class Wanted(NamedTuple):
    """What is to be spoken."""

    id: str
    text: str
    speaker: str | None
    """Who is to speak it; None where nothing says."""
    language: str | None = None


def run(argv: list[str]) -> int:
    """Speaks texts, and writes audio and when each unit is said."""
    arguments = _parser().parse_args(argv)
    skipped = SkipReport(strict=arguments.strict)
    wanted = _read(arguments.text, skipped)
    total = len(wanted) + len(skipped)
    if total == 1:
        skipped.strict = True
    single = _is_file(arguments.out)
    if single and len(wanted) != 1:
        raise ConfigError(
            f"--out: found {str(arguments.out)!r} for {len(wanted)} texts; expected a folder, in which "
            "each has a file. Name one."
        )
    if arguments.times == STDOUT and arguments.out == STDOUT:
        raise ConfigError("--times: - is --out already; expected another file. Name one.")
    format = _times_format(arguments)
    _check_manifest(arguments.manifest, arguments.out)
    from speechmm.files.writable import check_file
    from speechmm.inference.synthesis.synthesizer import Synthesizer

    check_file(arguments.manifest)
    synthesizer = Synthesizer(load_model(arguments), device=arguments.device)
    flagged: list[Flagged] = []
    cuts: list[MonoCut] = []
    spoken = _speak(synthesizer, wanted, arguments, skipped, flagged, cuts=cuts)
    shown = show_progress(spoken, len(wanted), "speaking", hidden=arguments.times == STDOUT)
    alignments = require_some(shown, skipped)
    if arguments.times is None:
        deque(alignments, maxlen=0)
    else:
        from speechmm.alignments import write_alignments

        shift = synthesizer.config.mel.frame_shift
        write_alignments(alignments, arguments.times, format, frame_shift=shift)
    if arguments.manifest is not None:
        from speechmm.data.manifest import write_cuts

        write_cuts(cuts, arguments.manifest)
    return name_flagged(flagged, skipped, total, noun="texts")


def _parser() -> CommandParser:
    parser = CommandParser(
        "synthesize", description="Speak a text, and say when each word and token of it is said."
    )
    parser.add_argument(
        "text",
        metavar="TEXT",
        help="what to speak: the words themselves; a text file with an utterance a line, a cuts "
        "manifest or any other file of texts that 'score' reads; - is standard input, an utterance a "
        "line",
    )
    add_model_arguments(parser, batches=False)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="audio file for one text, which ends in .wav or .flac (- is WAV to stdout); otherwise a "
        "folder for a .wav a text, named by its line or its id",
    )
    parser.add_argument(
        "--speaker",
        metavar="NAME",
        help="who speaks, of the voices that 'speechmm info' lists; when not given, a cut's own "
        "speaker if the model knows it, else the first",
    )
    parser.add_argument(
        "--rate",
        type=PositiveFloat,
        default=1.0,
        help="2 is twice as fast as usual; 0.25 to 4",
    )
    parser.add_argument(
        "--vocoder",
        type=Path,
        metavar="PATH",
        help="what makes the waveform: a folder of HiFi-GAN with config.json and model.safetensors, or an "
        ".onnx file with a description beside it; Griffin-Lim when not given",
    )
    parser.add_argument(
        "--vary",
        type=NonNegativeInt,
        metavar="SEED",
        help="speak each text by a speaker (of all, unless --speaker names one) and at 0.8 to 1.25 times "
        "--rate, drawn at random from this seed",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="cuts manifest (.jsonl, .jsonl.gz) of what is spoken, marked as synthetic, to train on "
        "with data.mix; texts of which something is left out are not in it",
    )
    parser.add_argument(
        "--times",
        type=Path,
        metavar="PATH",
        help="file or folder for when each word and token is said, as --out of 'speechmm align'; - "
        "writes one file to stdout",
    )
    parser.add_argument(
        "--format",
        choices=ALIGNMENT_FORMATS,
        help="of --times (default: what its name ends in, else textgrid)",
    )
    return parser


def _check_manifest(manifest: Path | None, out: Path) -> None:
    """Refuses a name that says nothing of a manifest, and audio that no manifest can name."""
    if manifest is None:
        return
    if out == STDOUT:
        raise ConfigError("--manifest: --out is stdout; expected files that it can name. Name one.")
    if not manifest.name.endswith(MANIFEST_SUFFIXES):
        raise ConfigError(
            f"--manifest: found {str(manifest)!r}; expected a name that ends in "
            f"{' or '.join(MANIFEST_SUFFIXES)}. Choose one."
        )


def _is_file(out: Path) -> bool:
    """Whether --out names one audio file."""
    return out == STDOUT or (out.suffix.lower() in AUDIO_SUFFIXES and not out.is_dir())


def _times_format(arguments: Namespace) -> str:
    """What --times holds."""
    if arguments.format is not None and arguments.times is None:
        raise ConfigError(
            f"--format {arguments.format}: has no effect without --times; expected both. Add the "
            "other, or leave it out."
        )
    ending = "" if arguments.times is None else arguments.times.suffix.lower().removeprefix(".")
    known = ending if ending in ALIGNMENT_FORMATS else "textgrid"
    return str(arguments.format or known)


def _read(text: str, skipped: SkipReport) -> list[Wanted]:
    """The texts to speak.

    Raises:
        ManifestError: There is no such file, or no text in it.
    """
    if text == STDIN:
        from speechmm.files.text import read_lines

        return _lines(read_lines(Path(STDIN)), "standard input")
    try:
        is_path = Path(text).exists()
    except (OSError, ValueError):  # longer than any path may be
        is_path = False
    if not text.strip() or not is_path:
        if text.endswith((".txt", *MANIFEST_SUFFIXES)) and len(text.split()) == 1:
            raise ManifestError(
                f"{text}: no such file; expected a text file, a manifest or words. Check the path."
            )
        if not text.strip():
            raise ManifestError("TEXT: is empty; expected words to speak. Give some.")
        return [Wanted("speech", text, None)]
    return _texts(Path(text), skipped)


def _texts(path: Path, skipped: SkipReport) -> list[Wanted]:
    """The texts of a file or folder."""
    from speechmm.alignments.kinds import kind_of
    from speechmm.evaluation.text_sets import read_text_set
    from speechmm.files.text import read_lines

    kind = None if path.is_dir() else kind_of(path)
    if kind == "cuts":
        return _cuts(path, skipped)
    if kind == "plain":
        return _lines(read_lines(path, skip=skipped.add), str(path))
    found = read_text_set(path).by_id
    return [Wanted(id, one.text, one.speaker or None) for id, one in found.items()]


def _lines(lines: Sequence[tuple[int, str]], name: str) -> list[Wanted]:
    if not lines:
        raise ManifestError(f"{name}: found no text; expected an utterance a line. Check it.")
    width = max(4, len(str(lines[-1][0])))
    return [Wanted(f"{number:0{width}d}", line, None) for number, line in lines]


def _cuts(path: Path, skipped: SkipReport) -> list[Wanted]:
    from speechmm.data.manifest import cut_language, cut_text, read_cuts
    from speechmm.data.spoken import speaker_of

    return [
        Wanted(one.id, cut_text(one), speaker_of(one), cut_language(one))
        for one in read_cuts(path, skipped)
    ]


def _speak(
    synthesizer: Synthesizer,
    wanted: Sequence[Wanted],
    arguments: Namespace,
    skipped: SkipReport,
    flagged: list[Flagged],
    *,
    cuts: list[MonoCut],
) -> Iterator[Alignment]:
    """Speaks and writes each text; the alignments of what was written, and cuts of it."""
    from speechmm.audio.writing import write_audio
    from speechmm.files.atomic import safe_name

    single = _is_file(arguments.out)
    synthesizer.check(arguments.speaker, arguments.rate)
    synthesizer.vocoder(arguments.vocoder)
    for one in wanted:
        speaker, rate = _voice(one, synthesizer.config.speakers, arguments)
        try:
            speech = synthesizer.synthesize(
                one.text,
                speaker=speaker,
                rate=rate,
                vocoder=arguments.vocoder,
                id=one.id,
            )
        except Exception as error:
            skipped.add(one.id, named_failure(one.id, error))
            continue
        path = arguments.out if single else arguments.out / f"{safe_name(one.id)}.wav"
        write_audio(path, speech.samples.numpy(), speech.sample_rate, ours=not single)
        alignment = replace(speech.alignment, audio=str(path))
        if alignment.flags:
            flagged.append((alignment.id, alignment.flags))
        elif arguments.manifest is not None:
            from speechmm.inference.synthesis.spoken_cuts import spoken_cut

            named = speaker or synthesizer.config.speakers[0]
            cuts.append(
                spoken_cut(speech, path, text=one.text, speaker=named, language=one.language)
            )
        yield alignment


def _voice(one: Wanted, known: Sequence[str], arguments: Namespace) -> tuple[str | None, float]:
    """Who speaks a text, and how fast; None for the first speaker."""
    own = one.speaker if one.speaker in known else None
    if arguments.vary is None:
        return own if arguments.speaker is None else arguments.speaker, arguments.rate
    from speechmm.inference.synthesis.spoken_cuts import draw_voice

    speakers = known if arguments.speaker is None else [arguments.speaker]
    return draw_voice(speakers, arguments.rate, seed=arguments.vary, id=one.id)

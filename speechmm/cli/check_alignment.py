"""``speechmm check-alignment``: are words where the alignment says, without any reference."""

from __future__ import annotations

import json
import random
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.cli.decoding import add_model_arguments, load_model
from speechmm.errors import ManifestError, SpeechmmError

if TYPE_CHECKING:
    from torch import Tensor

    from speechmm.data.skips import SkipReport
    from speechmm.inference.recognition.transcriber import Transcriber

SHIFTS_MS = (-200, -100, -50, 0, 50, 100, 200)
SHORTEST_SECONDS = 0.05


@dataclass(frozen=True)
class _Word:
    """A word and the utterance it is in."""

    id: str
    label: str
    start: float
    end: float
    waveform: Tensor
    """Of the whole utterance."""


def run(argv: list[str]) -> int:
    """Cuts words out at their times, transcribes them, and does so again with shifted times."""
    arguments = _parser().parse_args(argv)
    from speechmm.data.skips import SkipReport
    from speechmm.inference.recognition.beam_search import SearchOptions
    from speechmm.inference.recognition.transcriber import Transcriber

    bundle = load_model(arguments)
    skipped = SkipReport(strict=arguments.strict)
    words = _words(arguments, bundle.features.sample_rate, skipped)
    transcriber = Transcriber(
        bundle,
        options=SearchOptions(decoder="ctc"),
        batch_seconds=arguments.batch_seconds,
        word_times=False,
        device=arguments.device,
    )
    rows = [_check(words, shift, transcriber) for shift in SHIFTS_MS]
    if arguments.out is not None:
        from speechmm.files.atomic import write_text

        command = shlex.join(["speechmm", "check-alignment", *argv])
        found = {"words": len(words), "command": command, "shifts": rows}
        write_text(arguments.out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(words)} words, cut out at their times and recognised alone (greedy CTC)")
    for row in rows:
        low, high = row["ci95"]
        print(
            f"{row['shift_ms']:>+6} ms: character errors {100 * row['cer']:5.1f} % "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f}), "
            f"words wrong {100 * row['words_wrong']:5.1f} %"
        )
    skipped.print(len(words) + len(skipped), noun="words and utterances")
    return skipped.exit_code


def _words(arguments: Any, sample_rate: int, skipped: SkipReport) -> list[_Word]:
    """The words of the alignments with their audio, drawn at random where there are many."""
    from speechmm.alignments.ids import match_ids
    from speechmm.data.manifest import load_waveform, read_cuts
    from speechmm.evaluation.alignment_sets import read_alignment_set

    cuts = {cut.id: cut for cut in read_cuts(arguments.cuts, skipped)}
    alignments = read_alignment_set(arguments.alignment)
    known = match_ids(alignments, cuts.keys())
    chosen = [
        (id, number)
        for id, one in known.items()
        if id in cuts
        for number, word in enumerate(one.words)
        if word.end - word.start >= SHORTEST_SECONDS
    ]
    if not chosen:
        raise ManifestError(
            f"{arguments.alignment}: no word of {arguments.cuts} in it; expected the alignments "
            "of these utterances. Align them first."
        )
    if len(chosen) > arguments.most:
        chosen = sorted(random.Random(arguments.seed).sample(chosen, arguments.most))
    waveforms: dict[str, Tensor] = {}
    words = []
    for id, number in chosen:
        try:
            if id not in waveforms:
                waveforms[id] = load_waveform(cuts[id], sample_rate)
        except SpeechmmError as error:
            skipped.add(id, error)
            continue
        word = known[id].words[number]
        words.append(_Word(f"{id}-{number}", word.label, word.start, word.end, waveforms[id]))
    if not words:
        raise ManifestError(f"{arguments.cuts}: no audio could be read. Check the manifest.")
    return words


def _check(words: list[_Word], shift_ms: int, transcriber: Transcriber) -> dict[str, Any]:
    """Error rates of the words when all their times are moved by so much."""
    from speechmm.evaluation.error_rate import score_texts
    from speechmm.evaluation.significance import bootstrap_rate
    from speechmm.inference.engine.sources import Source
    from speechmm.text.normalize import normalize

    rate = transcriber.features.sample_rate
    sources = []
    for word in words:
        length = round((word.end - word.start) * rate)
        first = round((word.start + shift_ms / 1000) * rate)
        first = min(max(0, first), max(0, len(word.waveform) - length))
        part = word.waveform[first : first + max(1, length)]
        sources.append(Source(id=word.id, waveform=part))
    name = transcriber.tokenizer.normalizer
    heard = [normalize(one.text, name) for one in transcriber.transcribe_sources(sources)]
    said = [normalize(word.label, name) for word in words]
    scored = score_texts(said, heard, unit="character")
    errors = [one.counts.errors for one in scored]
    units = [one.counts.reference_words for one in scored]
    wrong = sum(a != b for a, b in zip(said, heard, strict=True))
    return {
        "shift_ms": shift_ms,
        "cer": sum(errors) / max(1, sum(units)),
        "ci95": list(bootstrap_rate(errors, units) or (0.0, 0.0)),
        "words_wrong": wrong / len(words),
    }


def _parser() -> CommandParser:
    parser = CommandParser(
        "check-alignment",
        description="Check an alignment without a reference: words are cut out at their times and "
        "recognised, and again with all times shifted, which must be worse.",
    )
    parser.add_argument("alignment", type=Path, metavar="ALIGNMENT", help="what 'align' wrote")
    parser.add_argument("cuts", type=Path, metavar="CUTS", help="manifest of the aligned audio")
    add_model_arguments(parser)
    parser.add_argument(
        "--most", type=PositiveInt, default=500, help="words to cut out; more are drawn at random"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of that choice")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for the numbers")
    return parser

"""Runs ``speechmm check-alignment``: recognises words cut out at their times, without a reference."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.cli.decoding import add_model_arguments, load_model

if TYPE_CHECKING:
    from torch import Tensor


def run(argv: list[str]) -> int:
    """Cuts words out at their times, transcribes them, and does so again with shifted times."""
    arguments = _parser().parse_args(argv)
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.alignment_check import (
        SHIFTS_MS,
        Recogniser,
        check_shift,
        read_spoken_words,
        shift_lines,
    )
    from speechmm.files.writable import check_file
    from speechmm.inference.engine.sources import Source
    from speechmm.inference.recognition.options import SearchOptions
    from speechmm.inference.recognition.transcriber import Transcriber

    check_file(arguments.out)
    bundle = load_model(arguments)
    skipped = SkipReport(strict=arguments.strict)
    words = read_spoken_words(
        arguments.alignment,
        arguments.cuts,
        most=arguments.most,
        seed=arguments.seed,
        sample_rate=bundle.features.sample_rate,
        skipped=skipped,
    )
    greedy_ctc = "ctc" in bundle.heads
    transcriber = Transcriber(
        bundle,
        options=SearchOptions(decoder="ctc" if greedy_ctc else None),
        batch_seconds=arguments.batch_seconds,
        word_times=False,
        device=arguments.device,
    )

    def transcribe(waveforms: Sequence[Tensor]) -> list[str]:
        sources = [Source(id=str(number), waveform=one) for number, one in enumerate(waveforms)]
        return [found.text for found in transcriber.transcribe_sources(sources)]

    recogniser = Recogniser(
        transcribe=transcribe,
        sample_rate=bundle.features.sample_rate,
        normalizer=bundle.tokenizer.normalizer,
    )
    rows = [check_shift(words, shift, recogniser) for shift in SHIFTS_MS]
    if arguments.out is not None:
        from speechmm.files.atomic import write_text

        command = shlex.join(["speechmm", "check-alignment", *argv])
        found = {"words": len(words), "command": command, "shifts": rows}
        write_text(arguments.out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    how = "CTC" if greedy_ctc else "decoder"
    print(f"{len(words)} words, cut out at their times and recognised alone (greedy {how})")
    print("\n".join(shift_lines(rows)))
    skipped.print(len(words) + len(skipped), noun="words and utterances")
    return skipped.exit_code


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

"""Runs ``speechmm check-flags``: measures how well ``align`` notices that a transcript is wrong."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from speechmm.cli.arguments import CommandParser
from speechmm.cli.decoding import add_model_arguments, load_model
from speechmm.cli.score import add_results_arguments, check_results_arguments
from speechmm.errors import ManifestError
from speechmm.options import EDIT_PENALTY

if TYPE_CHECKING:
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.damage import DamagedText, Detection, DetectionRow
    from speechmm.inference.alignment.aligner import Aligner
    from speechmm.inference.engine.sources import Source


class PenaltyRow(TypedDict):
    """What is noticed with one pair of penalties."""

    drop: float
    """Of a dropped word, nats."""
    extra: float
    """Of extra speech, nats."""
    kinds: list[DetectionRow]


class FlagsReport(TypedDict):
    """What ``--out`` gets, as JSON."""

    utterances: int
    command: str
    penalties: list[PenaltyRow]
    limits: list[PenaltyRow]
    """The same; an old name of it."""


def run(argv: list[str]) -> int:
    """Damages the transcripts of a manifest, aligns them, and counts what was flagged."""
    arguments = _parser().parse_args(argv)
    check_results_arguments(arguments.results, arguments.title)
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.damage import damaged_texts, detection_rates
    from speechmm.files.writable import check_file
    from speechmm.inference.alignment.aligner import Aligner
    from speechmm.inference.alignment.transcript_edits import EditPenalties

    check_file(arguments.out)
    bundle = load_model(arguments)
    bundle.require_heads(["ctc"], "check-flags")
    skipped = SkipReport(strict=arguments.strict)
    sources = _sources(arguments, bundle.tokenizer.normalizer, skipped)
    damages = damaged_texts(
        {id: source.text or "" for id, source in sources.items()}, arguments.seed
    )
    found: list[PenaltyRow] = []
    for penalty in arguments.penalties:
        penalties = EditPenalties.equal(penalty)
        aligner = Aligner(
            bundle,
            units=["word"],
            penalties=penalties,
            batch_seconds=arguments.batch_seconds,
            device=arguments.device,
        )
        rows = detection_rates(_detect(aligner, sources, damages))
        found.append({"drop": penalties.drop, "extra": penalties.extra, "kinds": rows})
    command = shlex.join(["speechmm", "check-flags", *argv])
    lines = [line for one in found for line in _lines(one)]
    print("\n".join(lines))
    if arguments.out is not None:
        from speechmm.files.atomic import write_text

        numbers: FlagsReport = {
            "utterances": len(sources),
            "command": command,
            "penalties": found,
            "limits": found,
        }
        write_text(arguments.out, json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    if arguments.results is not None:
        from speechmm.evaluation.results import write_results

        section = [f"{len(sources)} utterances.", *lines, "", f"- command: `{command}`"]
        write_results(arguments.results, arguments.title, section)
    skipped.print(len(sources) + len(skipped))
    return skipped.exit_code


def _sources(arguments: Any, normalizer: str, skipped: SkipReport) -> dict[str, Source]:
    """The utterances with normalised texts; those without a word are left out."""
    from speechmm.inference.engine.sources import find_sources
    from speechmm.text.normalize import normalize

    sources = {}
    for source in find_sources([arguments.cuts], skipped):
        text = normalize(source.text or "", normalizer)
        if text.split():
            sources[source.id] = replace(source, text=text)
    if not sources:
        raise ManifestError(
            f"{arguments.cuts}: no utterance has a text; expected some, two or more to swap. "
            "Give a manifest with transcripts."
        )
    if len(sources) > arguments.most:
        chosen = random.Random(arguments.seed).sample(sorted(sources), arguments.most)
        sources = {id: sources[id] for id in sorted(chosen)}
    return sources


def _detect(
    aligner: Aligner, sources: dict[str, Source], damages: Sequence[DamagedText]
) -> list[Detection]:
    """What the aligner says of every text; one that it refuses counts as flagged."""
    from speechmm.data.skips import SkipReport
    from speechmm.evaluation.damage import Detection

    named = {f"{damage.id}|{damage.kind}": damage for damage in damages}
    tasks = [
        replace(sources[damage.id], id=name, text=damage.text) for name, damage in named.items()
    ]
    refused = SkipReport()
    flags = {one.id: one.flags for one in aligner.align_sources(tasks, skipped=refused)}
    return [Detection(damage, flags.get(name, ("refused",))) for name, damage in named.items()]


def _lines(found: PenaltyRow) -> list[str]:
    """The table of one pair of penalties, in Markdown."""
    lines = [
        "",
        f"Penalties of a dropped word and of extra speech: {found['drop']:g} and "
        f"{found['extra']:g} nats.",
        "",
        "| texts | number | flagged | recall % | precision % | named rightly % |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["kinds"]:
        share = [row.get("recall"), row.get("precision"), row.get("named")]
        cells = ["" if one is None else f"{100 * one:.1f}" for one in share]
        flagged = str(row["flagged"])
        if "false_alarms" in row:
            flagged += f" ({100 * row['false_alarms']:.1f} % false alarms; "
            flagged += f"wrong_transcript {100 * row['whole_transcript_false_alarms']:.1f} %)"
        lines.append(f"| {row['kind']} | {row['texts']} | {flagged} | {' | '.join(cells)} |")
    return lines


def _parser() -> CommandParser:
    parser = CommandParser(
        "check-flags",
        description="Measure how well wrong transcripts are noticed: a word of each is deleted, "
        "inserted or replaced, two are swapped, and all are aligned. Precision is for one damaged "
        "text to each intact one.",
    )
    parser.add_argument("cuts", type=Path, metavar="CUTS", help="cuts manifest with texts")
    add_model_arguments(parser)
    parser.add_argument(
        "--penalties",
        type=NonNegativeFloat,
        nargs="+",
        metavar="NATS",
        default=[EDIT_PENALTY],
        help="edit penalties to try in turn, to choose one on a dev set",
    )
    parser.add_alias("--prices", "--penalties")
    parser.add_argument(
        "--most", type=PositiveInt, default=1000, help="utterances; more are drawn at random"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of what is drawn")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file for the numbers")
    add_results_arguments(parser)
    return parser

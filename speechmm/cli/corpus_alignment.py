"""Adds an aligner without a recogniser to speechmm align: one that learns from the recordings."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt

from speechmm.cli.arguments import CommandParser
from speechmm.errors import ConfigError
from speechmm.options import EDIT_PENALTY

if TYPE_CHECKING:
    from speechmm.alignments import Alignment
    from speechmm.data.skips import SkipReport
    from speechmm.inference.alignment.corpus_aligner import CorpusAligner
    from speechmm.inference.engine.sources import Source

_RECOGNISER_ONLY = {
    "adapter": None,
    "quantize": None,
    "batch_seconds": None,
    "label_prior": None,
    "pictures": None,
    "aligner": "head",
    "edit_penalty": EDIT_PENALTY,
}
"""Flags that only a bundle heeds, and what they are when nobody gives them."""


def add_learning_arguments(parser: CommandParser) -> None:
    """Adds the options of an aligner that learns from the input."""
    parser.add_argument(
        "--learn",
        action="store_true",
        help="learn to align from the input itself, in place of --model: twenty minutes of speech take "
        "some minutes; no recogniser checks the texts then",
    )
    parser.add_argument(
        "--language",
        metavar="VOICE",
        help="with --learn: learn phones, by the pronunciations of this espeak-ng voice, such as de or "
        "en-us; letters when not given",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="with --learn: folder for the aligner, which --model takes for other recordings",
    )
    parser.add_argument(
        "--seed", type=NonNegativeInt, default=0, help="with --learn: of its random numbers"
    )


def uses_corpus_aligner(arguments: Namespace) -> bool:
    """Whether the input is aligned without a recogniser; its flags are checked.

    Raises:
        ConfigError: Flags are missing, or contradict each other.
    """
    if arguments.learn == (arguments.model is not None):
        raise ConfigError(
            "--model, --learn: found both; expected one of them. Leave one of the two out."
            if arguments.learn
            else "--model: found none; expected the bundle of a model, or --learn, which learns from the "
            "input. Give one of the two."
        )
    if not arguments.learn:
        for name in ("language", "save"):
            if getattr(arguments, name) is not None:
                raise ConfigError(
                    f"--{name}: has no effect with --model; expected it with --learn. Leave it out."
                )
        from speechmm.inference.alignment.corpus_aligner import is_corpus_aligner

        if not is_corpus_aligner(arguments.model):
            return False
    for name, value in _RECOGNISER_ONLY.items():
        if getattr(arguments, name) != value:
            raise ConfigError(
                f"--{name.replace('_', '-')}: has no effect on an aligner without a recogniser; expected "
                "it with the bundle of a recogniser. Leave it out."
            )
    if arguments.device not in ("auto", "cpu"):
        raise ConfigError(
            f"--device: found {arguments.device!r}; expected cpu, where an aligner without a recogniser "
            "works. Leave it out."
        )
    return True


def corpus_aligner(
    arguments: Namespace, sources: Sequence[Source], skipped: SkipReport
) -> CorpusAligner:
    """The aligner of ``--model``, or one that learns from the sources; what it does is said on stderr."""
    import torch

    from speechmm.inference.alignment.corpus_aligner import load_corpus_aligner

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if not arguments.learn:
        return load_corpus_aligner(arguments.model)
    from speechmm.files.writable import check_new_folder
    from speechmm.models.bundle import CONFIG_FILE
    from speechmm.training.corpus_aligner import LearningSettings, learn_aligner

    check_new_folder(arguments.save, mark=CONFIG_FILE)
    aligner = learn_aligner(
        sources,
        language=arguments.language,
        settings=LearningSettings(seed=arguments.seed),
        skipped=skipped,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if arguments.save is not None:
        aligner.save(arguments.save)
    return aligner


def align_corpus(
    aligner: CorpusAligner,
    sources: Sequence[Source],
    skipped: SkipReport,
    *,
    units: Sequence[str] | None,
) -> Iterator[Alignment]:
    """The alignments of all sources that were not skipped; those that stand out are flagged.

    Args:
        aligner: Places the texts.
        sources: Utterances with texts.
        skipped: Holds what was left out before, which is left out here.
        units: Units to keep; None keeps all.
    """
    from speechmm.inference.alignment.corpus_aligner import edge_range, outliers
    from speechmm.inference.alignment.units import check_kinds

    wanted = check_kinds(units, aligner.units.kind)
    left_out = {item for item, _ in skipped.items}
    remaining = [source for source in sources if source.name not in left_out]
    found = list(aligner.align_sources(remaining, skipped=skipped))
    far = outliers(found)
    width = edge_range(segment for one in found for segment in one.units[aligner.units.kind])
    if width is not None:
        print(
            f"{len(found)} utterances aligned; eight of ten edges are thought to lie within "
            f"{1000 * width:.0f} ms (median); {len(far)} utterances fit their texts far worse than the "
            "others",
            file=sys.stderr,
        )
    for one in found:
        flags = (*one.flags, "low_confidence") if one.id in far else one.flags
        yield replace(one, flags=flags, units={unit: one.units[unit] for unit in wanted})

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
from speechmm.options import EACH, EDIT_PENALTY

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
    """Adds the options of aligners without a recogniser: the one that ships, and those that learn."""
    parser.add_argument(
        "--language",
        metavar="VOICE",
        help="without a bundle: pronounce the texts by this voice of espeak-ng, such as de or en-us; when "
        "not given, by the language of each utterance in a manifest; with --learn, letters",
    )
    parser.add_argument(
        "--lexicon",
        type=Path,
        metavar="FILE",
        help="without a bundle: pronounce words as this file does: a word and its phones a line, several "
        "lines for several pronunciations (CMUdict, Montreal Forced Aligner, Kaldi); other words by the "
        "language",
    )
    parser.add_argument(
        "--learn",
        action="store_true",
        help="learn to align from the input itself: twenty minutes of speech take some minutes; with "
        "--model FOLDER from the alignments of that aligner on",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="with --learn: folder for the aligner, which --model takes for other recordings",
    )
    parser.add_argument(
        "--learn-settings",
        type=Path,
        metavar="FILE",
        help="with --learn: YAML file of settings, such as width: 192 (LearningSettings in Python)",
    )
    parser.add_argument(
        "--seed",
        type=NonNegativeInt,
        help="with --learn: of its random numbers; 0 unless the settings say so",
    )


def uses_corpus_aligner(arguments: Namespace) -> bool:
    """Whether the input is aligned without a recogniser; its flags are checked.

    Raises:
        ConfigError: Flags are missing, or contradict each other.
    """
    from speechmm.inference.alignment.aligner_folder import is_corpus_aligner

    bundle = arguments.model is not None and not is_corpus_aligner(arguments.model)
    if arguments.learn and bundle:
        raise ConfigError(
            f"--model, --learn: found both, and {arguments.model} is no aligner that --learn can go on "
            "from; expected one of them. Leave one of the two out."
        )
    if not arguments.learn:
        for name in ("save", "learn_settings", "seed"):
            if getattr(arguments, name) is not None:
                raise ConfigError(
                    f"--{name.replace('_', '-')}: has no effect without --learn; expected both. Leave it "
                    "out."
                )
    if bundle:
        for name in ("language", "lexicon"):
            if getattr(arguments, name) is not None:
                raise ConfigError(
                    f"--{name}: has no effect with the bundle of a model, whose tokenizer decides; "
                    "expected none. Leave it out."
                )
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
    """The aligner of ``--model``, the universal one, or one that learns; what it does is said on stderr."""
    import torch

    from speechmm.inference.alignment.aligner_folder import (
        UNIVERSAL,
        load_corpus_aligner,
        pronouncing,
    )
    from speechmm.text.lexicon import read_lexicon

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    lexicon = None if arguments.lexicon is None else read_lexicon(arguments.lexicon)
    start = None
    if arguments.model is not None or not arguments.learn:
        start = load_corpus_aligner(arguments.model or UNIVERSAL)
        start = pronouncing(start, arguments.language, lexicon)
    if not arguments.learn:
        assert start is not None
        _say_voices(start, sources)
        return start
    from speechmm.files.writable import check_new_folder
    from speechmm.inference.alignment.aligner_folder import save_corpus_aligner
    from speechmm.models.bundle import CONFIG_FILE
    from speechmm.training.aligner_settings import learning_settings
    from speechmm.training.corpus_aligner import learn_aligner

    check_new_folder(arguments.save, mark=CONFIG_FILE)
    aligner = learn_aligner(
        sources,
        language=arguments.language,
        lexicon=lexicon,
        start=start,
        settings=learning_settings(arguments.learn_settings, seed=arguments.seed),
        skipped=skipped,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if arguments.save is not None:
        save_corpus_aligner(aligner, arguments.save)
    return aligner


def _say_voices(aligner: CorpusAligner, sources: Sequence[Source]) -> None:
    """Tells how texts are pronounced of which nobody has said the language."""
    from speechmm.inference.alignment.placed_text import guessed_voices

    said = guessed_voices(sources) if aligner.units.language == EACH else None
    if said is not None:
        print(f"{said}; --language VOICE is more exact", file=sys.stderr)


def align_corpus(
    aligner: CorpusAligner,
    sources: Sequence[Source],
    skipped: SkipReport,
    *,
    units: Sequence[str] | None,
) -> Iterator[Alignment]:
    """The alignments of all sources that were not skipped; those that stand out are flagged.

    All are, with a line on stderr, where texts fit no better than those of other utterances do.

    Args:
        aligner: Places the texts.
        sources: Utterances with texts.
        skipped: Holds what was left out before, which is left out here.
        units: Units to keep; None keeps all.
    """
    from speechmm.inference.alignment.texts_of_others import fitting_better, warning
    from speechmm.inference.alignment.trust import outliers, trust, wrong_texts
    from speechmm.inference.alignment.units import check_kinds
    from speechmm.inference.alignment.verification import wrong_transcript

    wanted = check_kinds(units, aligner.units.kind)
    left_out = {item for item, _ in skipped.items}
    remaining = [source for source in sources if source.name not in left_out]
    found = list(aligner.align_sources(remaining, skipped=skipped))
    said = trust(found, aligner.units.kind)
    if said is not None:
        print(said, file=sys.stderr)
    wrong = wrong_texts(found) if aligner.units.shared else set()
    far = outliers(found) - wrong
    warned = warning(*fitting_better(aligner, remaining, found)) if aligner.units.shared else None
    if warned is not None:
        print(warned, file=sys.stderr)
        far = {one.id for one in found} - wrong
    for one in found:
        flags = one.flags
        if one.id in wrong:
            flags = (*flags, wrong_transcript(one.duration))
        if one.id in far:
            flags = (*flags, "low_confidence")
        yield replace(one, flags=flags, units={unit: one.units[unit] for unit in wanted})

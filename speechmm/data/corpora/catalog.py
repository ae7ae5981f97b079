"""Lists the corpora by name.

A new corpus is a parser file in this folder, its name here, a recipe folder and a test. The parser
has ``ABOUT`` (one line), ``OPTIONS`` (flags of its own) and ``prepare(root, report, **options)``; it
imports what is slow to import inside its functions, since help is made from all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechmm.data.corpora.options import Option
from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from lhotse import MonoCut

    from speechmm.data.skips import SkipReport

CORPORA = (
    "synth", "names", "an4", "fsdd", "yesno", "kerstin", "ljspeech", "librispeech", "folder", "kaldi",
)  # fmt: skip
"""Each is also the name of its parser's module."""

_ORDER = {"train": 0, "dev": 1, "test": 2}


@dataclass(frozen=True)
class Corpus:
    """What a parser says of itself."""

    name: str
    about: str
    options: tuple[Option, ...]
    needs_root: bool
    """Whether it reads a folder; else it makes the corpus in the output folder."""
    prepare: Callable[..., dict[str, list[MonoCut]]]


def find_corpus(name: str) -> Corpus:
    """The corpus of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in CORPORA:
        raise ConfigError(f"corpus: found '{name}'; expected one of {', '.join(CORPORA)}.")
    module = importlib.import_module(f"speechmm.data.corpora.{name}")
    needs_root = getattr(module, "NEEDS_ROOT", True)
    return Corpus(name, module.ABOUT, module.OPTIONS, needs_root, module.prepare)


def prepare_splits(
    name: str, root: Path, report: SkipReport, options: dict[str, Any]
) -> dict[str, list[MonoCut]]:
    """The cuts of a corpus, every split with one or more; splits the options ask none of left out.

    Raises:
        ManifestError: Nothing, or nothing of one split, can be used.
    """
    from speechmm.data.splits import require_utterances

    splits = find_corpus(name).prepare(root, report, **options)
    order = sorted(splits, key=lambda split: (_ORDER.get(split, len(_ORDER)), split))
    splits = {split: splits[split] for split in order if splits[split] or options.get(split) != 0}
    require_utterances(splits, report, str(root))
    return splits

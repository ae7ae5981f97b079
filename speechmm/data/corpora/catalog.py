"""The corpora by name.

A new corpus is a parser file in this folder, a line here, its options (if any) in
``cli/prepare.py``, a recipe folder and a test.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from lhotse import MonoCut

    from speechmm.data.skips import SkipReport

CORPORA = {
    "synth": "numbers, dates, times and commands, spoken by espeak-ng here and now",
    "an4": "CMU AN4: spelled names, numbers and short commands, 84 speakers",
    "fsdd": "Free Spoken Digit Dataset: English digits, six speakers",
    "yesno": "OpenSLR 1: yes and no in Hebrew, one speaker",
    "kerstin": "Kerstin: one German woman reading",
    "ljspeech": "LJSpeech 1.1: one English woman reading",
    "librispeech": "LibriSpeech and Mini LibriSpeech: English audiobooks",
    "folder": "any corpus: audio with text files beside it, or with a table",
    "kaldi": "Kaldi data folders",
}
"""Name, which is also the parser's module, and what it is."""


_ORDER = {"train": 0, "dev": 1, "test": 2}


def find_parser(
    name: str,
) -> Callable[..., dict[str, list[MonoCut]]]:
    """The ``prepare(root, report, **options)`` of a corpus.

    Raises:
        ConfigError: There is no corpus of this name.
    """
    if name not in CORPORA:
        raise ConfigError(f"corpus: found '{name}'; expected one of {', '.join(CORPORA)}.")
    module = importlib.import_module(f"speechmm.data.corpora.{name}")
    prepare: Callable[..., dict[str, list[MonoCut]]] = module.prepare
    return prepare


def prepare_splits(
    name: str, root: Path, report: SkipReport, options: dict[str, Any]
) -> dict[str, list[MonoCut]]:
    """The cuts of a corpus, every split with one or more; splits the options ask none of left out.

    Raises:
        ManifestError: Nothing, or nothing of one split, can be used.
    """
    from speechmm.data.splits import require_utterances

    splits = find_parser(name)(root, report, **options)
    order = sorted(splits, key=lambda split: (_ORDER.get(split, len(_ORDER)), split))
    splits = {split: splits[split] for split in order if splits[split] or options.get(split) != 0}
    require_utterances(splits, report, str(root))
    return splits

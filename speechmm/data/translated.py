"""Reads which languages a training set has, and puts them and its translations into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from speechmm.data.batch import Translations, pad_tokens
from speechmm.data.cut_rows import read_rows, row_language, row_translations
from speechmm.data.manifest import cut_language, cut_translations
from speechmm.data.plan import PlannedUtterance
from speechmm.data.skips import SkipReport
from speechmm.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Languages:
    """The languages of a training, by their codes in alphabetical order."""

    spoken: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    """Of translations."""

    def of_rows(self, rows: Sequence[Sequence[PlannedUtterance]]) -> Int[Tensor, " batch"] | None:
        """The place of each row's language among those spoken; -1 where it is none, or several.

        None where nobody asks which are spoken.
        """
        if not self.spoken:
            return None
        places = {name: place for place, name in enumerate(self.spoken)}
        found = [
            {cut_language(part.cut) for one in row for part in one.pieces or (one,)} for row in rows
        ]
        return torch.tensor([places.get(one.pop(), -1) if len(one) == 1 else -1 for one in found])

    def translations(
        self,
        rows: Sequence[Sequence[PlannedUtterance]],
        encode: Callable[[Sequence[str]], list[int]],
        round_up: Callable[[int], int] | None = None,
    ) -> Translations | None:
        """The translations of those rows all of which is translated; None where there are none.

        Args:
            rows: Of a batch; what is put together from words of others has no translation.
            encode: Makes tokens of the texts of one row.
            round_up: From the length of the longest translation to that of all.
        """
        found: list[tuple[int, int, list[int]]] = []
        for row, parts in enumerate(rows):
            if any(one.pieces for one in parts):
                continue
            known = [cut_translations(one.cut) for one in parts]
            for place, name in enumerate(self.targets):
                if all(name in one for one in known):
                    tokens = encode([one[name] for one in known])
                    found += [(row, place, tokens)] if tokens else []
        if not found:
            return None
        padded, lengths = pad_tokens([one for _, _, one in found], round_up)
        return Translations(
            rows=torch.tensor([row for row, _, _ in found]),
            languages=torch.tensor([place for _, place, _ in found]),
            tokens=padded,
            token_lengths=lengths,
        )


@dataclass(frozen=True)
class FoundLanguages:
    """What manifests say about languages."""

    languages: Languages
    utterances: int
    translated: int
    """Translations of which the tokenizer knows something."""
    unknown: frozenset[str]
    """Characters of translations that it does not know."""


def read_languages(manifests: Iterable[str], tokenizer: Tokenizer) -> FoundLanguages:
    """All languages that are spoken in some manifests, or that their texts are translated into.

    Raises:
        ManifestError: A manifest cannot be read.
    """
    spoken: set[str] = set()
    targets: set[str] = set()
    unknown: set[str] = set()
    utterances = translated = 0
    for path in manifests:
        for row in read_rows(Path(path), SkipReport()):
            utterances += 1
            spoken.add(row_language(row.data))
            for name, text in row_translations(row.data).items():
                found = tokenizer.examine(text)
                unknown |= found.unknown
                if found.ids and not found.is_unknown:
                    targets.add(name)
                    translated += 1
    languages = Languages(tuple(sorted(spoken - {""})), tuple(sorted(targets)))
    return FoundLanguages(languages, utterances, translated, frozenset(unknown))

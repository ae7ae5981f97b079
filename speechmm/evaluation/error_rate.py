"""Counts word and character errors against a reference: jiwer behind one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple

_OPS = {
    "equal": "hit",
    "substitute": "substitution",
    "delete": "deletion",
    "insert": "insertion",
}


@dataclass(frozen=True)
class ErrorCounts:
    """How hypotheses differ from their references, in units (words, or characters)."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_words(self) -> int:
        """Units of the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference unit, a fraction that may exceed 1.

        Where the references have no units at all: 0 without insertions, 1 with any.
        """
        if self.reference_words:
            return self.errors / self.reference_words
        return float(self.insertions > 0)

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


class Chunk(NamedTuple):
    """A run of one kind of step in an alignment; ends are exclusive, as in slices."""

    op: str
    """hit, substitution, deletion or insertion."""
    reference_start: int
    reference_end: int
    hypothesis_start: int
    hypothesis_end: int


class AlignedPair(NamedTuple):
    """One step of an alignment; the side that has nothing is ""."""

    op: str
    """hit, substitution, deletion or insertion."""
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class UtteranceErrors:
    """One utterance aligned with its reference with the fewest edits."""

    reference: Sequence[str]
    hypothesis: Sequence[str]
    chunks: tuple[Chunk, ...]

    @cached_property
    def counts(self) -> ErrorCounts:
        """How many of each."""
        number = dict.fromkeys(_OPS.values(), 0)
        for op, start, end, hyp_start, hyp_end in self.chunks:
            number[op] += max(end - start, hyp_end - hyp_start)
        return ErrorCounts(
            number["hit"], number["substitution"], number["deletion"], number["insertion"]
        )

    @property
    def alignment(self) -> list[AlignedPair]:
        """The steps one by one, in order."""
        pairs: list[AlignedPair] = []
        for op, start, end, hyp_start, hyp_end in self.chunks:
            reference, hypothesis = self.reference[start:end], self.hypothesis[hyp_start:hyp_end]
            pairs += [
                AlignedPair(op, a, b) for a, b in zip_longest(reference, hypothesis, fillvalue="")
            ]
        return pairs


def score_texts(
    references: Sequence[str], hypotheses: Sequence[str], *, unit: str = "word"
) -> list[UtteranceErrors]:
    """Aligns each hypothesis with its reference with the fewest edits.

    Args:
        references: One text per utterance, already normalised; may be empty.
        hypotheses: The same number of texts.
        unit: "word" (what white space divides), or "character" (single spaces between words count).

    Raises:
        ValueError: The two differ in length, or there is no such unit.
    """
    if unit == "word":
        return score_units([t.split() for t in references], [t.split() for t in hypotheses])
    if unit == "character":
        return score_units(
            [list(" ".join(t.split())) for t in references],
            [list(" ".join(t.split())) for t in hypotheses],
        )
    raise ValueError(f"unit is {unit!r}; expected word or character")


def score_folded_words(
    references: Sequence[str], hypotheses: Sequence[str], folded: Callable[[str], str]
) -> list[UtteranceErrors]:
    """Words compared as ``folded`` has them; a right one is spelled as the reference has it."""
    pairs = [(a.split(), b.split()) for a, b in zip(references, hypotheses, strict=True)]
    scored = score_units(
        [list(map(folded, reference)) for reference, _ in pairs],
        [list(map(folded, hypothesis)) for _, hypothesis in pairs],
    )
    return [
        replace(one, reference=reference, hypothesis=_respelled(one.chunks, reference, hypothesis))
        for one, (reference, hypothesis) in zip(scored, pairs, strict=True)
    ]


def _respelled(
    chunks: Sequence[Chunk], reference: Sequence[str], hypothesis: Sequence[str]
) -> list[str]:
    """A hypothesis whose right words are spelled as in the reference."""
    words = list(hypothesis)
    for op, start, end, hyp_start, hyp_end in chunks:
        if op == "hit":
            words[hyp_start:hyp_end] = reference[start:end]
    return words


def score_units(
    references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]
) -> list[UtteranceErrors]:
    """The same for texts that are divided into units already.

    Raises:
        ValueError: The two differ in length.
    """
    import jiwer

    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    if not references:
        return []
    found = jiwer.process_words(
        [list(units) for units in references],
        [list(units) for units in hypotheses],
        reference_transform=_as_they_are,
        hypothesis_transform=_as_they_are,
    )
    return [
        UtteranceErrors(
            reference,
            hypothesis,
            tuple(
                Chunk(
                    _OPS[one.type],
                    one.ref_start_idx,
                    one.ref_end_idx,
                    one.hyp_start_idx,
                    one.hyp_end_idx,
                )
                for one in chunks
            ),
        )
        for reference, hypothesis, chunks in zip(
            references, hypotheses, found.alignments, strict=True
        )
    ]


def _as_they_are(texts: list[list[str]]) -> list[list[str]]:
    return texts


def total_counts(scored: Sequence[UtteranceErrors]) -> ErrorCounts:
    """The sum over utterances."""
    counts = [one.counts for one in scored]
    return ErrorCounts(
        sum(one.hits for one in counts),
        sum(one.substitutions for one in counts),
        sum(one.deletions for one in counts),
        sum(one.insertions for one in counts),
    )


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Word errors over whole texts, already normalised."""
    return total_counts(score_texts(references, hypotheses))

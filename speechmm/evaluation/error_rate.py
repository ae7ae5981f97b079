"""Word, character and sentence error counts: jiwer behind one function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_OPS = {
    "equal": "hit",
    "substitute": "substitution",
    "delete": "deletion",
    "insert": "insertion",
}


@dataclass(frozen=True)
class ErrorCounts:
    """How a set of hypotheses differs from its references."""

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
        """Errors per reference unit, a fraction; without any, 0, or 1 with insertions."""
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


@dataclass(frozen=True)
class AlignedPair:
    """One step of an alignment: ``op`` is hit, substitution, deletion or insertion."""

    op: str
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class UtteranceErrors:
    """One utterance scored."""

    counts: ErrorCounts
    alignment: tuple[AlignedPair, ...]


def score_texts(
    references: Sequence[str], hypotheses: Sequence[str], *, unit: str = "word"
) -> list[UtteranceErrors]:
    """Aligns each hypothesis with its reference with the fewest edits.

    Args:
        references: One normalised text per utterance; may be empty.
        hypotheses: The same number of texts.
        unit: "word", or "character" (spaces count).

    Raises:
        ValueError: the two differ in length, or there is no such unit.
    """
    import jiwer

    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    if not references:
        return []
    if unit == "word":
        found = jiwer.process_words(list(references), list(hypotheses))
    elif unit == "character":
        found = jiwer.process_characters(list(references), list(hypotheses))
    else:
        raise ValueError(f"unit is {unit!r}; expected word or character")
    rows = zip(found.references, found.hypotheses, found.alignments, strict=True)
    return [_scored(list(ref), list(hyp), chunks) for ref, hyp, chunks in rows]


def _scored(reference: list[str], hypothesis: list[str], chunks: Sequence[Any]) -> UtteranceErrors:
    pairs: list[AlignedPair] = []
    for chunk in chunks:
        said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        op = _OPS[chunk.type]
        pairs += [AlignedPair(op, a, b) for a, b in zip_longest(said, heard, fillvalue="")]
    number = Counter(pair.op for pair in pairs)
    counts = ErrorCounts(
        number["hit"], number["substitution"], number["deletion"], number["insertion"]
    )
    return UtteranceErrors(counts, tuple(pairs))


def count_errors(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorCounts:
    """Word errors over whole texts, already normalised."""
    return total_counts(score_texts(references, hypotheses))


def total_counts(scored: Sequence[UtteranceErrors]) -> ErrorCounts:
    """The sum over utterances."""
    return sum((one.counts for one in scored), ErrorCounts())

"""Error counts against a brute-force edit distance, and what always holds of them."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speechmm.evaluation.error_rate import score_texts, total_counts
from speechmm.evaluation.significance import compare_systems, error_segments

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def edit_distance(said: list[str], heard: list[str]) -> int:
    table = np.zeros((len(said) + 1, len(heard) + 1), int)
    table[:, 0] = range(len(said) + 1)
    table[0] = range(len(heard) + 1)
    for i, word in enumerate(said, 1):
        for j, other in enumerate(heard, 1):
            table[i, j] = min(
                table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (word != other)
            )
    return int(table[-1, -1])


@given(PAIRS)
def test_errors_are_the_edit_distance(pairs: list[tuple[str, str]]) -> None:
    scored = score_texts([ref for ref, _ in pairs], [hyp for _, hyp in pairs])
    for one, (reference, hypothesis) in zip(scored, pairs, strict=True):
        assert one.counts.errors == edit_distance(reference.split(), hypothesis.split())


@given(ANY_TEXT, ANY_TEXT, st.sampled_from(["word", "character"]))
def test_counts_add_up_to_both_texts(reference: str, hypothesis: str, unit: str) -> None:
    (one,) = score_texts([reference], [hypothesis], unit=unit)
    counts = one.counts
    words = [reference.split(), hypothesis.split()]
    said, heard = words if unit == "word" else [list(" ".join(side)) for side in words]
    assert counts.hits + counts.substitutions + counts.deletions == len(said)
    assert counts.hits + counts.substitutions + counts.insertions == len(heard)
    assert [pair.reference for pair in one.alignment if pair.op != "insertion"] == said
    assert [pair.hypothesis for pair in one.alignment if pair.op != "deletion"] == heard
    assert all((pair.reference == pair.hypothesis) == (pair.op == "hit") for pair in one.alignment)


@given(PAIRS)
def test_total_is_the_sum(pairs: list[tuple[str, str]]) -> None:
    scored = score_texts([ref for ref, _ in pairs], [hyp for _, hyp in pairs])
    total = total_counts(scored)
    assert total.errors == sum(one.counts.errors for one in scored)
    assert total.reference_words == sum(len(ref.split()) for ref, _ in pairs)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6))
def test_segments_hold_all_errors_of_both_systems(rows: list[tuple[str, str, str]]) -> None:
    references, a, b = (list(column) for column in zip(*rows, strict=True))
    first, second = score_texts(references, a), score_texts(references, b)
    for one, other in zip(first, second, strict=True):
        segments = error_segments(one, other)
        assert sum(x for x, _ in segments) == one.counts.errors
        assert sum(y for _, y in segments) == other.counts.errors
        assert all(x or y for x, y in segments)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=6))
def test_comparison_is_antisymmetric(rows: list[tuple[str, str, str]]) -> None:
    references, a, b = (list(column) for column in zip(*rows, strict=True))
    first, second = score_texts(references, a), score_texts(references, b)
    there, back = (
        compare_systems(first, second, draws=50),
        compare_systems(second, first, draws=50),
    )
    assert there.wer_difference == -back.wer_difference
    assert math.isclose(there.p_value, back.p_value)
    assert math.isclose(there.probability_better + back.probability_better, 1.0)

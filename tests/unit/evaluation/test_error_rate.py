"""Counts of single texts, and the edges: nothing said, nothing heard."""

import pytest

from speechmm.evaluation.error_rate import ErrorCounts, count_errors, score_texts


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", ErrorCounts(3, 0, 0, 0)),
        ("a b c", "a x c", ErrorCounts(2, 1, 0, 0)),
        ("a b c", "", ErrorCounts(0, 0, 3, 0)),
        ("", "a b", ErrorCounts(0, 0, 0, 2)),
        ("", "", ErrorCounts(0, 0, 0, 0)),
        ("a  b\tc", " a b c ", ErrorCounts(3, 0, 0, 0)),
        ("a b c d", "a x b c d", ErrorCounts(4, 0, 0, 1)),
    ],
)
def test_counts(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert count_errors([reference], [hypothesis]) == expected


def test_rates_are_fractions_and_defined_without_reference() -> None:
    assert count_errors(["a b c d"], ["a"]).rate == 0.75
    assert count_errors(["a"], ["b c d"]).rate == 3.0
    assert count_errors([""], [""]).rate == 0.0
    assert count_errors([""], ["a b"]).rate == 1.0
    assert count_errors([], []).rate == 0.0


def test_characters_count_single_spaces() -> None:
    (one,) = score_texts(["ab  cd"], ["abcd"], unit="character")
    assert one.counts == ErrorCounts(4, 0, 1, 0)


def test_alignment_shows_each_step() -> None:
    (one,) = score_texts(["the cat sat"], ["a cat sat down"])
    assert [tuple(pair) for pair in one.alignment] == [
        ("substitution", "the", "a"),
        ("hit", "cat", "cat"),
        ("hit", "sat", "sat"),
        ("insertion", "", "down"),
    ]


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="2 references, 1 hypotheses"):
        score_texts(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="word or character"):
        score_texts(["a"], ["a"], unit="phone")

from collections import Counter
from itertools import islice
from random import Random

import pytest

from speechmm.data.corpora.synth.grammar import DOMAINS, cardinal, clock, ordinal, sentences, year


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (206, "two hundred and six"),
        (1000, "one thousand"),
        (2005, "two thousand and five"),
        (9999, "nine thousand nine hundred and ninety nine"),
    ],
)
def test_cardinal(number, words):
    assert cardinal(number) == words


def test_ordinals_years_and_times():
    assert [ordinal(n) for n in (1, 12, 20, 21, 30)] == [
        "first",
        "twelfth",
        "twentieth",
        "twenty first",
        "thirtieth",
    ]
    assert [year(n) for n in (1984, 2005, 2024)] == [
        "nineteen eighty four",
        "two thousand and five",
        "twenty twenty four",
    ]
    assert clock(9, 0) == "nine o'clock"
    assert clock(9, 5) == "nine oh five"
    assert clock(9, 15, style=1) == "a quarter past nine"
    assert clock(12, 50, style=1) == "ten to one"
    assert clock(12, 51, style=1) == "twelve fifty one"


def test_sentences_are_plain_words_and_repeat_with_the_seed():
    some = list(islice(sentences(3), 500))
    assert some == list(islice(sentences(3), 500))
    assert some != list(islice(sentences(4), 500))
    assert len(set(some)) == 500
    assert all(2 <= len(text.split()) <= 16 for text in some)
    assert set("".join(some)) <= set("abcdefghijklmnopqrstuvwxyz' ")


def test_a_test_set_has_new_sentences_of_known_words():
    train = list(islice(sentences("0 train"), 1800))
    test = list(islice(sentences("0 test", avoid=frozenset(train)), 200))
    assert not set(train) & set(test)
    counts = Counter(word for text in train for word in text.split())
    assert min(counts.values()) >= 5
    assert {word for text in test for word in text.split()} <= set(counts)


def test_every_pattern_can_be_said():
    rng = Random(0)
    for pattern in DOMAINS["all"]:
        assert all(pattern(rng).split() for _ in range(50))


def test_each_half_of_the_grammar_has_words_of_its_own():
    assert (*DOMAINS["commands"], *DOMAINS["statements"]) == DOMAINS["all"]
    words = {
        domain: {
            word for text in islice(sentences(0, domain=domain), 2000) for word in text.split()
        }
        for domain in DOMAINS
    }
    assert {"february", "thousand", "london"} <= words["statements"] - words["commands"]
    assert {"shopping", "please", "heating"} <= words["commands"] - words["statements"]

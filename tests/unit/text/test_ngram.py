"""N-gram models: sums to one, hand-computed backoff, files."""

import gzip
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from speechmm.errors import ConfigError, ManifestError
from speechmm.text.ngram import END, START, UNKNOWN_WORD, NgramModel, estimate_ngrams

ARPA = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.5
-0.5 </s>
-0.8 a -0.2
-1.0 b

\\2-grams:
-0.1 <s> a
-0.3 a b

\\end\\
"""


def random_sentences(count: int) -> list[str]:
    source = random.Random(0)
    words = ["red", "blue", "green", "one", "two", "of", "the"]
    weights = [9, 3, 1, 5, 5, 2, 7]
    return [" ".join(source.choices(words, weights, k=source.randint(1, 6))) for _ in range(count)]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [2, 300], ids=["few", "many"])
def test_probabilities_sum_to_one_after_every_context(order: int, count: int) -> None:
    model = estimate_ngrams(random_sentences(count), order=order)
    words = [word for word in model.vocabulary if word != START]
    assert {END, UNKNOWN_WORD} <= set(words)
    source = random.Random(1)
    contexts = [[], [START], ["never", "seen"]]
    contexts += [[START, *source.choices(words, k=3)] for _ in range(20)]
    for context in contexts:
        total = sum(math.exp(model.score(word, context)) for word in words)
        assert total == pytest.approx(1.0, abs=1e-9)


def test_what_was_said_more_often_is_likelier(sentence_log_prob: Callable) -> None:
    model = estimate_ngrams(["the red one"] * 8 + ["the blue one"] * 2 + ["a red two"], order=3)
    assert model.score("red", [START, "the"]) > model.score("blue", [START, "the"])
    assert model.score("blue", ["the"]) > model.score("two", ["the"])
    assert sentence_log_prob(model, "the red one") > sentence_log_prob(model, "one red the")


def test_continuations_count_not_occurrences() -> None:
    """Kneser-Ney's point: "francisco" is frequent, but only ever after "san"."""
    texts = ["san francisco"] * 20 + ["a b", "c b", "d b", "e b", "b x"]
    model = estimate_ngrams(texts, order=2)
    assert model.score("b", ["unseen"]) > model.score("francisco", ["unseen"])


def test_a_file_is_read_as_written_by_hand(tmp_path: Path, sentence_log_prob: Callable) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA)
    model = NgramModel.read(tmp_path / "lm.arpa")
    ten = math.log(10)
    assert model.order == 2
    assert model.score("a", [START]) == pytest.approx(-0.1 * ten)
    assert model.score("b", [START]) == pytest.approx((-0.5 - 1.0) * ten)
    assert model.score("b", [START, "a"]) == pytest.approx(-0.3 * ten)
    assert model.score("a", ["a"]) == pytest.approx((-0.2 - 0.8) * ten)
    assert model.score("a", ["b"]) == pytest.approx(-0.8 * ten)  # b has no weight: 1
    assert model.score("zoo", ["b"]) == pytest.approx(-1.0 * ten)  # as the rarest word
    assert sentence_log_prob(model, "a b") == pytest.approx((-0.1 - 0.3 - 0.5) * ten)


@pytest.mark.parametrize("name", ["lm.arpa", "ü b.arpa.gz"])
def test_files_come_back(name: str, tmp_path: Path) -> None:
    model = estimate_ngrams(random_sentences(50), order=3)
    model.write(tmp_path / name)
    again = NgramModel.read(tmp_path / name)
    assert (tmp_path / name).read_bytes()[:2] == (b"\x1f\x8b" if name.endswith("gz") else b"\n\\")
    assert set(again.log_probs) == set(model.log_probs)
    assert again.log_probs == pytest.approx(model.log_probs, abs=1e-5)
    assert again.backoffs == pytest.approx(model.backoffs, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        (b"", "expected a whole ARPA file"),
        (b"hello there\n", "expected a whole ARPA file"),
        (ARPA.replace("-0.3 a b\n", "").encode(), "expected a whole ARPA file"),
        (ARPA.replace("-0.3 a b", "-0.3 a").encode(), ":14: found '-0.3 a'"),
        (ARPA.replace("-0.3", "x").encode(), ":14: found 'x a b'"),
        (ARPA.replace("ngram 1=", "ngram 1=x").encode(), ":3: found 'ngram 1=x"),
        (ARPA.replace("\\2-grams", "\\x-grams").encode(), "expected the order of n-grams"),
    ],
)
def test_files_that_are_none(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.arpa"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=complaint):
        NgramModel.read(path)


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode())[:-40])
    with pytest.raises(ManifestError, match="cannot be read"):
        NgramModel.read(path)


def test_impossible_wishes() -> None:
    with pytest.raises(ConfigError, match="order: found 0"):
        estimate_ngrams(["a"], order=0)
    with pytest.raises(ConfigError, match="found no words"):
        estimate_ngrams(["", "  "], order=2)

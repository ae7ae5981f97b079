"""Estimates word n-gram language models (modified Kneser-Ney), and reads and writes ARPA files."""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from speechmm.alignments.scripts import written_words
from speechmm.errors import ConfigError, ManifestError
from speechmm.files.atomic import write_aside
from speechmm.files.text import open_lines

START, END, UNKNOWN_WORD = "<s>", "</s>", "<unk>"
LN10 = math.log(10.0)
LOG10_ZERO = -99.0
"""What ARPA files write for a probability of zero."""
_DEFAULT_DISCOUNTS = (0.5, 1.0, 1.5)
"""Where the texts are too few to estimate discounts from."""
MAX_ORDER = 100
_COUNT_CLASSES = 3  # seen once, twice, three times and more: each has its own discount

Words = tuple[str, ...]


class NgramModel:
    """A backoff model: log-probabilities of n-grams, and weights for contexts that lack one."""

    def __init__(self, log_probs: dict[Words, float], backoffs: dict[Words, float]):
        """Keeps the tables.

        Args:
            log_probs: Natural log-probability of the last word of each n-gram given the others.
            backoffs: Natural log of each context's backoff weight.
        """
        self.log_probs = log_probs
        self.backoffs = backoffs
        self.order = max(map(len, log_probs))
        self.vocabulary = frozenset(words[0] for words in log_probs if len(words) == 1)
        rarest = min(p for words, p in log_probs.items() if len(words) == 1 and words[0] != START)
        self.unknown = log_probs.get((UNKNOWN_WORD,), rarest)

    def score(self, word: str, context: Sequence[str]) -> float:
        """Natural log-probability of a word after the words of ``context``, oldest first.

        A word the model does not know has the probability of ``<unk>``, or where there is none
        that of the rarest word.
        """
        if word not in self.vocabulary:
            word = UNKNOWN_WORD
        history = tuple(context[-(self.order - 1) :]) if self.order > 1 else ()
        backoff = 0.0
        # Backoff: drop the oldest word of the context until the n-gram is there.
        while True:
            found = self.log_probs.get((*history, word))
            if found is not None:
                return backoff + found
            if not history:
                return backoff + self.unknown
            backoff += self.backoffs.get(history, 0.0)
            history = history[1:]

    def write(self, path: Path) -> None:
        """Writes an ARPA file, gzip-compressed where its name ends in ``.gz``."""
        by_order: dict[int, list[Words]] = defaultdict(list)
        for words in sorted(self.log_probs):
            by_order[len(words)].append(words)
        with write_aside(path) as aside, _open(aside) as file:
            lines = ["", "\\data\\", *(f"ngram {n}={len(by_order[n])}" for n in sorted(by_order))]
            file.write("\n".join(lines).encode() + b"\n")
            for n in sorted(by_order):
                file.write(f"\n\\{n}-grams:\n".encode())
                for words in by_order[n]:
                    file.write((self._line(words) + "\n").encode())
            file.write(b"\n\\end\\\n")

    def _line(self, words: Words) -> str:
        log10 = max(LOG10_ZERO, self.log_probs[words] / LN10)
        line = f"{log10:.6f}\t{' '.join(words)}"
        backoff = self.backoffs.get(words)
        return line if backoff is None else f"{line}\t{backoff / LN10:.6f}"

    @classmethod
    def read(cls, path: Path) -> NgramModel:
        """Reads an ARPA file of any order, plain or ``.gz``.

        Raises:
            ManifestError: there is no such file, or it is damaged or no ARPA file.
        """
        try:
            with open_lines(path) as file:
                return cls._parse(path, file)
        except (OSError, EOFError, zlib.error) as error:
            raise ManifestError(
                f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); expected "
                "an ARPA file. Check the path."
            ) from error

    @classmethod
    def _parse(cls, path: Path, file: Iterable[bytes]) -> NgramModel:
        log_probs: dict[Words, float] = {}
        backoffs: dict[Words, float] = {}
        order = 0
        declared: Counter[int] = Counter()
        for number, raw in enumerate(file, 1):
            line = raw.decode("utf-8", errors="replace").strip()
            if line == "\\end\\":
                break
            expected = f"a log-probability and {order} words"
            try:
                if line.startswith("ngram ") and not order:
                    expected = "'ngram ORDER=COUNT' in two numbers"
                    size, _, count = line[len("ngram ") :].partition("=")
                    declared[int(size)] = int(count)
                    if not (0 < int(size) <= MAX_ORDER and 0 <= int(count) < 1e12):
                        raise ValueError("impossible numbers")
                elif line.startswith("\\") and line.endswith("-grams:"):
                    expected = "the order of n-grams as a number"
                    order = int(line[1 : -len("-grams:")])
                    if not 0 < order <= MAX_ORDER:
                        raise ValueError("an impossible order")
                elif order and line:
                    words, log_prob, backoff = _parse_ngram(line, order)
                    log_probs[words] = log_prob
                    if backoff is not None:
                        backoffs[words] = backoff
            except ValueError as error:
                raise ManifestError(
                    f"{path}:{number}: found {line[:60]!r}; expected {expected}. Make the file "
                    "again."
                ) from error
        found = Counter(map(len, log_probs))
        if not found[1] or found != +declared:
            raise ManifestError(
                f"{path}: found {dict(sorted(found.items()))} n-grams by length and its head says "
                f"{dict(sorted(declared.items()))}; expected a whole ARPA file. Make it again."
            )
        return cls(log_probs, backoffs)


def _parse_ngram(line: str, order: int) -> tuple[Words, float, float | None]:
    """The words of a line, their log-probability, and where it is there the backoff, natural logs.

    Raises:
        ValueError: It has too few words, or what should be a number is none.
    """
    fields = line.split()
    words = tuple(fields[1 : order + 1])
    if len(words) < order:
        raise ValueError(f"{len(words)} words")
    backoff = float(fields[order + 1]) * LN10 if len(fields) > order + 1 else None
    log_prob = float(fields[0]) * LN10
    if not (math.isfinite(log_prob) and math.isfinite(backoff or 0.0)):
        raise ValueError("numbers that are not finite")
    return words, log_prob, backoff


def _open(path: Path) -> Any:
    """A binary file to write, through gzip where its name ends in ``.gz``."""
    return gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb")


def estimate_ngrams(sentences: Iterable[str], *, order: int = 3) -> NgramModel:
    """Estimates an n-gram model by interpolated modified Kneser-Ney smoothing, nothing pruned.

    Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language
    modeling", section 3; n-grams that begin a sentence keep their own counts.

    Args:
        sentences: Texts, normalised; in scripts without spaces each letter is a word.
        order: Words in an n-gram, 1 or more.

    Raises:
        ConfigError: the order is below 1, or there is no word at all.
    """
    if order < 1:
        raise ConfigError(f"order: found {order}; expected 1 or more. Correct it.")
    counts = _counts(sentences, order)
    if not counts[1]:
        raise ConfigError("n-grams: found no words; expected at least one text. Check the input.")
    size = len(counts[1]) + 1  # and the unknown word
    log_probs: dict[Words, float] = {(START,): LOG10_ZERO * LN10}
    backoffs: dict[Words, float] = {}
    lower_order: dict[Words, float] = {}
    for n in range(1, order + 1):
        discounted = _DiscountedCounts(counts[n])
        probabilities: dict[Words, float] = {}
        for words, count in counts[n].items():
            # p(w | context) = discounted share + backoff weight * p(w | context without its oldest)
            weight = discounted.backoff_weight(words[:-1])
            lower = lower_order[words[1:]] if n > 1 else 1.0 / size
            probabilities[words] = discounted.share(words, count) + weight * lower
        if n == 1:
            probabilities[(UNKNOWN_WORD,)] = discounted.backoff_weight(()) / size
        log_probs.update((words, math.log(p)) for words, p in probabilities.items())
        backoffs.update(
            (context, math.log(discounted.backoff_weight(context)))
            for context in discounted.contexts
            if context
        )
        lower_order = probabilities
    return NgramModel(log_probs, backoffs)


def _counts(sentences: Iterable[str], order: int) -> dict[int, Counter[Words]]:
    """Counts by length: of the longest as they are, of shorter ones continuation counts.

    A continuation count is the number of different words before an n-gram.
    """
    raw: dict[int, Counter[Words]] = {n: Counter() for n in range(1, order + 1)}
    for sentence in sentences:
        words = written_words(sentence)
        if not words:
            continue
        padded = (START, *words, END)
        for n, level in raw.items():
            level.update(_windows(padded, n))
    counts = {order: raw[order]}
    for n in range(order - 1, 0, -1):
        continuations = Counter(words[1:] for words in raw[n + 1])
        initial = {words: c for words, c in raw[n].items() if words[0] == START and n > 1}
        counts[n] = Counter({**continuations, **initial})
    counts[1].pop((START,), None)
    return counts


def _windows(words: Words, size: int) -> Iterator[Words]:
    return (words[i : i + size] for i in range(len(words) - size + 1))


class _DiscountedCounts:
    """Relative frequencies of the n-grams of one length, less a discount for each."""

    def __init__(self, counts: Counter[Words]):
        self.discounts = _discounts(counts)
        self.contexts: Counter[Words] = Counter()
        classes: dict[Words, list[int]] = defaultdict(lambda: [0] * _COUNT_CLASSES)
        for words, count in counts.items():
            self.contexts[words[:-1]] += count
            classes[words[:-1]][min(count, _COUNT_CLASSES) - 1] += 1
        self.backoff_weights = {
            context: sum(d * k for d, k in zip(self.discounts, classes[context], strict=True))
            / total
            for context, total in self.contexts.items()
        }

    def share(self, words: Words, count: int) -> float:
        """Discounted relative frequency."""
        return (count - self.discounts[min(count, _COUNT_CLASSES) - 1]) / self.contexts[words[:-1]]

    def backoff_weight(self, context: Words) -> float:
        """The probability that the discounts leave for the lower order."""
        return self.backoff_weights[context]


def _discounts(counts: Counter[Words]) -> tuple[float, float, float]:
    """Discounts of n-grams seen once, twice, and more often (equation 26)."""
    seen = Counter(counts.values())
    ones, twos, threes, fours = (seen[k] for k in (1, 2, 3, 4))
    if not (ones and twos and threes and fours):
        return _DEFAULT_DISCOUNTS
    y = ones / (ones + 2 * twos)
    found = (1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes)
    possible = all(0 < d < k for d, k in zip(found, (1, 2, 3), strict=True))
    return found if possible else _DEFAULT_DISCOUNTS

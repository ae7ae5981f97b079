"""Breaks errors down by length, duration, place, confidence, word and character."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from speechmm.evaluation.error_rate import ErrorCounts, UtteranceErrors, total_counts
from speechmm.evaluation.report_types import (
    ConfidenceRow,
    ConfusionRow,
    CountsRow,
    DurationRow,
    GroupRow,
    LengthRow,
    OutOfVocabulary,
    PositionRow,
)
from speechmm.evaluation.scoring import Scored

LENGTHS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, 40), (41, None))
"""Groups of utterances by reference words, both ends included."""
DURATIONS = ((0.0, 1.0), (1.0, 2.0), (2.0, 5.0), (5.0, 10.0), (10.0, 20.0), (20.0, None))
"""Groups of utterances by seconds, the upper end left out."""
PLACES = 10
"""Equal parts of an utterance."""
CONFIDENCE_GROUPS = 10
MAX_CONFUSIONS = 1000


def counts_row(counts: ErrorCounts) -> CountsRow:
    """Counts as the interface names them; of characters "reference_words" counts characters."""
    return {
        "value": counts.rate,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "hits": counts.hits,
        "reference_words": counts.reference_words,
    }


def group_row(scored: Sequence[UtteranceErrors]) -> GroupRow:
    """Counts of a group of utterances, and how many they are."""
    return {**counts_row(total_counts(scored)), "utterances": len(scored)}


def by_length(scored: Sequence[UtteranceErrors]) -> list[LengthRow]:
    """Groups by the words of the reference."""
    rows: list[LengthRow] = []
    for low, high in LENGTHS:
        group = [
            one
            for one in scored
            if low <= len(one.reference) and (high is None or len(one.reference) <= high)
        ]
        if group:
            rows.append({"words_from": low, "words_to": high, **group_row(group)})
    return rows


def by_duration(scored: Scored) -> list[DurationRow]:
    """Groups by seconds of audio, where they are known."""
    rows: list[DurationRow] = []
    for low, high in DURATIONS:
        group = [
            one
            for source, one in zip(scored.sources, scored.words, strict=True)
            if source.duration
            and low <= source.duration
            and (high is None or source.duration < high)
        ]
        if group:
            rows.append({"seconds_from": low, "seconds_to": high, **group_row(group)})
    return rows


def by_position(scored: Iterable[UtteranceErrors]) -> list[PositionRow]:
    """Errors by tenth of the reference: what goes wrong at the start, in the middle, at the end.

    A word stands where its middle is; what is inserted stands between words.
    """
    words = [0] * PLACES
    errors = [Counter[str]() for _ in range(PLACES)]
    for one in scored:
        length = len(one.reference)
        for op, start, end, hyp_start, hyp_end in one.chunks:
            if op == "insertion":
                place = min(PLACES - 1, PLACES * start // length) if length else 0
                errors[place][op] += hyp_end - hyp_start
                continue
            for word in range(start, end):
                place = PLACES * (2 * word + 1) // (2 * length)
                words[place] += 1
                errors[place][op] += op != "hit"
    return [
        {
            "from": place / PLACES,
            "to": (place + 1) / PLACES,
            "reference_words": words[place],
            "substitutions": errors[place]["substitution"],
            "deletions": errors[place]["deletion"],
            "insertions": errors[place]["insertion"],
        }
        for place in range(PLACES)
    ]


def by_confidence(scored: Scored) -> list[ConfidenceRow]:
    """Equal shares of the utterances from the least to the most confident."""
    known = sorted(
        (source.confidence, at)
        for at, source in enumerate(scored.sources)
        if source.confidence is not None
    )
    size = max(10, -(-len(known) // CONFIDENCE_GROUPS))
    return [
        {
            "confidence_from": group[0][0],
            "confidence_to": group[-1][0],
            **group_row([scored.words[at] for _, at in group]),
        }
        for group in (known[at : at + size] for at in range(0, len(known), size))
    ]


def confusions(
    scored: Iterable[UtteranceErrors], *, most: int = MAX_CONFUSIONS
) -> list[ConfusionRow]:
    """Substituted pairs, deleted and inserted words (or characters), the most frequent first."""
    number = Counter(
        pair for one in scored if one.counts.errors for pair in one.alignment if pair.op != "hit"
    )
    ranked = sorted(number.items(), key=lambda row: (-row[1], row[0]))[:most]
    return [
        {"type": op, "reference": reference, "hypothesis": hypothesis, "count": count}
        for (op, reference, hypothesis), count in ranked
    ]


def out_of_vocabulary(scored: Iterable[UtteranceErrors], known: Collection[str]) -> OutOfVocabulary:
    """How many words of the references the system cannot have seen, and how they fare.

    Args:
        scored: Words.
        known: The normalised words of the training texts.
    """
    total = Counter[bool]()
    wrong = Counter[bool]()
    unseen = Counter[str]()
    for one in scored:
        for op, start, end, *_ in one.chunks:
            for word in one.reference[start:end]:
                new = word not in known
                total[new] += 1
                wrong[new] += op != "hit"
                if new:
                    unseen[word] += 1
    ranked = sorted(unseen.items(), key=lambda row: (-row[1], row[0]))
    return {
        "vocabulary": len(known),
        "share": total[True] / max(1, sum(total.values())),
        "reference_words": total[True],
        "wrong": wrong[True],
        "known_reference_words": total[False],
        "known_wrong": wrong[False],
        "most_frequent": [{"word": word, "count": count} for word, count in ranked[:50]],
    }

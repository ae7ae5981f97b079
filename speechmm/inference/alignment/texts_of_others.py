"""Notices where texts belong to other recordings: a list that is shifted by a line, or in another order.

Where all texts are wrong, none stands out among the others. So some are compared with the text of another
utterance: what is said fits its own text better.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from speechmm.alignments import Alignment
from speechmm.errors import SpeechmmError
from speechmm.inference.alignment.corpus_aligner import CorpusAligner
from speechmm.inference.engine.sources import Source

MOST_TRIED = 20
"""Utterances that are compared, drawn at random, always the same."""
FEWEST_TRIED = 10
"""Fewer say nothing."""
LONGEST_SECONDS = 30.0
"""Longer ones are left out: they hold many sentences, and take long."""
LEAST_SHARE = 0.75
"""Share that must fit its own text better. Half do by chance where no text is right."""


def fitting_better(
    aligner: CorpusAligner, sources: Sequence[Source], found: Sequence[Alignment]
) -> tuple[int, int]:
    """How many utterances fit their own text better than that of another, and how many were compared.

    Args:
        aligner: Knows the phones, whatever was said in these recordings.
        sources: The utterances with their texts.
        found: Their alignments, of those that have one.
    """
    confidences = {one.id: one.confidence for one in found if one.duration <= LONGEST_SECONDS}
    usable = [one for one in sources if one.id in confidences]
    better = tried = 0
    drawn = random.Random(0).sample(usable, min(MOST_TRIED, len(usable)))
    for source, text in _with_others(drawn):
        try:
            other = aligner.align(replace(source, text=text))
        except SpeechmmError:  # more text than frames, for example: it says nothing
            continue
        tried += 1
        better += (confidences[source.id] or 0.0) > (other.confidence or 0.0)
    return better, tried


def warning(better: int, tried: int) -> str | None:
    """What a user is told where texts fit no better than others do; None where they do."""
    if tried < FEWEST_TRIED or better >= LEAST_SHARE * tried:
        return None
    return (
        f"texts: of {tried} utterances tried, only {better} fit their own text better than that of "
        "another; expected nearly all. Look whether the list of texts is shifted or in another order. If "
        "it is right, the aligner does not know the sounds of this language, and its times are poor"
    )


def _with_others(sources: Sequence[Source]) -> Iterator[tuple[Source, str]]:
    """Utterances, and the text of another one in the same language, half the sample away."""
    by_language: dict[str | None, list[Source]] = {}
    for one in sources:
        by_language.setdefault(one.language, []).append(one)
    for group in by_language.values():
        texts = [one.transcript() for one in group]
        half = len(group) // 2
        for own, other, source in zip(texts, texts[half:] + texts[:half], group, strict=True):
            if other.split() != own.split():
                yield source, other

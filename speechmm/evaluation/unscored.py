"""Leaves out of hypotheses what was recognised where the reference says that nothing is scored."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from speechmm.alignments.scripts import joined_words
from speechmm.evaluation.text_lines import UtteranceText
from speechmm.evaluation.text_sets import TextSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredParts:
    """Hypotheses of what is scored."""

    hypotheses: TextSet
    left_out: int
    """Words."""
    untimed: list[str]
    """Ids with parts that are not scored, and a hypothesis without the times of its words."""


def scored_parts(hyp: TextSet, ref: TextSet) -> ScoredParts:
    """The hypotheses without the words whose middle lies where nothing is scored, as sclite does it.

    Args:
        hyp: Hypotheses, under the ids of the references.
        ref: References; of ``stm`` they may have such parts.
    """
    kept: dict[str, UtteranceText] = {}
    left_out, untimed = 0, []
    for id, reference in ref.by_id.items():
        one = hyp.by_id.get(id)
        if not reference.not_scored or one is None or not one.text.strip():
            continue
        if len(one.word_labels) != len(one.word_times) or not one.word_labels:
            untimed.append(id)
            continue
        places = [
            place
            for place, times in enumerate(one.word_times)
            if not _is_within(sum(times) / 2, reference.not_scored)
        ]
        if len(places) < len(one.word_times):
            left_out += len(one.word_times) - len(places)
            kept[id] = _only(one, places)
    return ScoredParts(replace(hyp, by_id={**hyp.by_id, **kept}), left_out, untimed)


def warn_of_untimed(untimed: Sequence[str], hyp: TextSet, ref: TextSet) -> None:
    """Says which hypotheses have words too many for want of times."""
    if untimed:
        logger.warning(
            "%s: %d with parts that %s does not score have no word times (for example %s); words "
            "recognised there count as inserted. Give the times: ctm, or jsonl with words.",
            hyp.path,
            len(untimed),
            ref.path,
            untimed[0],
        )


def _is_within(second: float, spans: Sequence[tuple[float, float]]) -> bool:
    return any(start <= second < end for start, end in spans)


def _only(text: UtteranceText, places: Sequence[int]) -> UtteranceText:
    """Some of its words."""
    labels = tuple(text.word_labels[place] for place in places)
    confidences = text.word_confidences
    return replace(
        text,
        text=joined_words(labels),
        word_labels=labels,
        word_times=tuple(text.word_times[place] for place in places),
        word_confidences=tuple(confidences[place] for place in places) if confidences else (),
    )

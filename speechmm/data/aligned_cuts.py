"""Puts alignments into cuts, as lhotse keeps them: times from the start of the recording."""

from bisect import bisect_right
from itertools import accumulate

from lhotse import MonoCut, SupervisionSegment
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from speechmm.alignments import Alignment, Segment
from speechmm.alignments.scripts import written_words
from speechmm.data.manifest import cut_text
from speechmm.errors import AlignmentError

_DECIMALS = 8  # of seconds, as lhotse rounds

Items = dict[str, list[AlignmentItem]]


def with_alignment(cut: MonoCut, alignment: Alignment, *, text: str) -> MonoCut:
    """The same cut, its supervisions with a new alignment in place of any they had.

    Where the cut has several supervisions, each gets the words of its own text. Words of no length
    (a dash) stay in the text and are left out of the alignment: lhotse cannot cut them out.

    Args:
        cut: The utterance.
        alignment: When its units were said, in seconds from the start of the cut.
        text: What was aligned. If it is not the text of the cut, the one supervision gets it; where
            there is not exactly one, a new one of the whole cut takes the place of all.

    Raises:
        AlignmentError: There are several supervisions, and no words to tell them apart.
    """
    supervisions = list(cut.supervisions)
    if text != cut_text(cut):
        supervisions = [_with_text(cut, " ".join(text.split()))]
    spoken = [number for number, one in enumerate(supervisions) if (one.text or "").strip()]
    items = dict(
        zip(spoken, _items(cut, alignment, [supervisions[n] for n in spoken]), strict=True)
    )
    changed = [
        fastcopy(one, alignment=items.get(number)) for number, one in enumerate(supervisions)
    ]
    return fastcopy(cut, supervisions=changed)


def _with_text(cut: MonoCut, text: str) -> SupervisionSegment:
    if len(cut.supervisions) == 1:
        return fastcopy(cut.supervisions[0], text=text)
    return SupervisionSegment(
        id=cut.id,
        recording_id=cut.recording_id,
        start=0.0,
        duration=cut.duration,
        channel=cut.channel,
        text=text,
    )


def _items(cut: MonoCut, alignment: Alignment, spoken: list[SupervisionSegment]) -> list[Items]:
    """For each supervision with text the units said in it."""
    owners = {unit: [0] * len(segments) for unit, segments in alignment.units.items()}
    if len(spoken) > 1:
        owners = _owners(cut, alignment, spoken)
    return [
        {
            unit: [
                item
                for segment, owner in zip(segments, owners[unit], strict=True)
                if owner == number and (item := _item(segment, cut)).duration > 0
            ]
            for unit, segments in alignment.units.items()
        }
        for number in range(len(spoken))
    ]


def _owners(
    cut: MonoCut, alignment: Alignment, spoken: list[SupervisionSegment]
) -> dict[str, list[int]]:
    """Which supervision each segment belongs to: words by their number, other units by time."""
    counts = [len(written_words(one.text or "")) for one in spoken]
    words = alignment.words
    if len(words) != sum(counts):
        raise AlignmentError(
            f"cut {cut.id}: it has {len(spoken)} supervisions of {sum(counts)} words, and its "
            f"alignment has {len(words)} words; expected as many, to tell whose each unit is. "
            'Align the unit "word" too.'
        )
    firsts = [end - count for end, count in zip(accumulate(counts), counts, strict=True)]
    begins = [words[first].start for first in firsts]
    by_time = {
        unit: [max(0, bisect_right(begins, segment.start) - 1) for segment in segments]
        for unit, segments in alignment.units.items()
    }
    return {**by_time, "word": [n for n, count in enumerate(counts) for _ in range(count)]}


def _item(segment: Segment, cut: MonoCut) -> AlignmentItem:
    """The segment, its numbers rounded as in jsonl and then moved; never outside the cut.

    What is shorter than a sample has the duration 0.
    """
    row = segment.to_dict()
    duration = min(row["end"], cut.duration) - row["start"]
    return AlignmentItem(
        symbol=row["label"],
        start=max(cut.start, round(cut.start + row["start"], _DECIMALS)),
        duration=round(duration, _DECIMALS) if duration * cut.sampling_rate >= 1 else 0.0,
        score=row["confidence"],
    )

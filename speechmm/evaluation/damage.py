"""Corrupts transcripts on purpose, to measure whether an aligner notices."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

INTACT, DELETED, INSERTED, REPLACED, SWAPPED = KINDS = (
    "intact",
    "word deleted",
    "word inserted",
    "word replaced",
    "texts swapped",
)


@dataclass(frozen=True)
class DamagedText:
    """A text, and what was done to it."""

    id: str
    """Of the utterance."""
    kind: str
    text: str
    word: str = ""
    """The word that was put in, or taken out."""


def damaged_texts(texts: Mapping[str, str], seed: int) -> list[DamagedText]:
    """Every text five times: as it is, with a word deleted, inserted, replaced, and another one.

    Words that are put in are drawn from all the texts, as often as they occur there, but never one
    that already stands in that place or beside it, so that every damage is audible. A text of one
    word keeps it; texts are swapped in a circle of utterances, and not where the next one says the
    same.

    Args:
        texts: By utterance; normalised, so that words differ when they sound different.
        seed: Of the places and words.
    """
    draw = random.Random(seed)
    vocabulary = [word for text in texts.values() for word in text.split()]
    others = dict(zip(texts, _rotated(list(texts.values()), draw), strict=True))
    found = []
    for id, text in texts.items():
        words = text.split()
        found.append(DamagedText(id, INTACT, text))
        if len(words) > 1:
            place = draw.randrange(len(words))
            beside = [*words[:place], *words[place + 1 :]]
            found.append(DamagedText(id, DELETED, " ".join(beside), words[place]))
        place = draw.randrange(len(words) + 1)
        new = _other_word(vocabulary, words[max(0, place - 1) : place + 1], draw)
        if new is not None:
            put = [*words[:place], new, *words[place:]]
            found.append(DamagedText(id, INSERTED, " ".join(put), new))
        place = draw.randrange(len(words)) if words else 0
        new = _other_word(vocabulary, words[max(0, place - 1) : place + 2], draw)
        if words and new is not None:
            put = [*words[:place], new, *words[place + 1 :]]
            found.append(DamagedText(id, REPLACED, " ".join(put), new))
        if others[id] != text:
            found.append(DamagedText(id, SWAPPED, others[id]))
    return found


def _rotated(texts: Sequence[str], draw: random.Random) -> list[str]:
    """Each text replaced by the next one of a random circle."""
    order = list(range(len(texts)))
    draw.shuffle(order)
    out = [""] * len(texts)
    for here, there in zip(order, [*order[1:], *order[:1]], strict=True):
        out[here] = texts[there]
    return out


def _other_word(vocabulary: Sequence[str], taken: Sequence[str], draw: random.Random) -> str | None:
    for _ in range(100):
        word = draw.choice(vocabulary)
        if word not in taken:
            return word
    return None


@dataclass(frozen=True)
class Detection:
    """What an aligner said of one damaged text."""

    damage: DamagedText
    flags: tuple[str, ...]
    """Its flags; an error counts as one."""

    @property
    def found(self) -> bool:
        """Whether it was flagged at all."""
        return bool(self.flags)

    @property
    def named(self) -> bool:
        """Whether the flag says what the damage is."""
        kind, word = self.damage.kind, self.damage.word
        if kind == SWAPPED:
            return any(flag.startswith(("wrong_transcript", "refused")) for flag in self.flags)
        if kind == DELETED:
            return any(flag.startswith("extra_speech") for flag in self.flags)
        heads = (f"not_said: {word} ", f"wrong_word: {word} ")
        return any(flag.startswith(heads) for flag in self.flags)


class _DetectionCounts(TypedDict):
    kind: str
    texts: int
    flagged: int


class DetectionRow(_DetectionCounts, total=False):
    """How many texts of one kind of damage were flagged; rates are there where texts are.

    The first three are of damaged texts, the last two of intact ones.
    """

    recall: float
    precision: float | None
    """None where nothing was flagged."""
    named: float
    """Share whose flag says what the damage is."""
    false_alarms: float
    whole_transcript_false_alarms: float


def detection_rates(detections: Sequence[Detection]) -> list[DetectionRow]:
    """A row per kind of damage: how many, flagged, named, and precision.

    Precision is that of a corpus with one text damaged this way for every intact one.
    """
    rows: list[DetectionRow] = []
    by_kind = {kind: [d for d in detections if d.damage.kind == kind] for kind in KINDS}
    alarms = by_kind[INTACT]
    false = sum(one.found for one in alarms) / max(1, len(alarms))
    for kind, some in by_kind.items():
        found = sum(one.found for one in some)
        row: DetectionRow = {"kind": kind, "texts": len(some), "flagged": found}
        if kind != INTACT and some:
            recall = found / len(some)
            row["recall"] = recall
            row["precision"] = recall / (recall + false) if recall + false else None
            row["named"] = sum(one.named for one in some) / len(some)
        elif some:
            row["false_alarms"] = false
            whole = sum(flag.startswith("wrong_transcript") for one in some for flag in one.flags)
            row["whole_transcript_false_alarms"] = whole / len(some)
        rows.append(row)
    return rows

"""Transcripts damaged on purpose, and how their detection is counted."""

from speechmm.evaluation.damage import (
    DELETED,
    INSERTED,
    INTACT,
    KINDS,
    REPLACED,
    SWAPPED,
    Detection,
    damaged_texts,
    detection_rates,
)

TEXTS = {"a": "one two three", "b": "four", "c": "five six", "d": "four"}


def test_each_damage_is_what_it_says() -> None:
    for seed in range(30):
        found = damaged_texts(TEXTS, seed)
        assert [one.text for one in found if one.kind == INTACT] == list(TEXTS.values())
        for one in found:
            before, after = TEXTS[one.id].split(), one.text.split()
            if one.kind == DELETED:
                assert len(after) == len(before) - 1
                assert sorted([*after, one.word]) == sorted(before)
            elif one.kind == INSERTED:
                assert len(after) == len(before) + 1
                assert sorted([*before, one.word]) == sorted(after)
            elif one.kind == REPLACED:
                differing = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
                assert [new for _, new in differing] == [one.word]
            elif one.kind == SWAPPED:
                assert one.text in TEXTS.values() and one.text != TEXTS[one.id]
        assert [one.id for one in found if one.kind == DELETED] == ["a", "c"]
        assert damaged_texts(TEXTS, seed) == found


def test_rates() -> None:
    intact = damaged_texts(TEXTS, 0)[0]
    damages = {one.kind: one for one in damaged_texts({"x": "p q r", "y": "s t u"}, 3)}
    word = damages[INSERTED].word
    detections = [
        Detection(intact, ("wrong_transcript: 0.00-1.00 s",)),
        *[Detection(intact, ())] * 3,
        Detection(damages[INSERTED], (f"not_said: {word} 0.10-0.20 s",)),
        Detection(damages[INSERTED], ("extra_speech: 0.10-0.20 s",)),
        Detection(damages[DELETED], ("extra_speech: 0.10-0.20 s",)),
        Detection(damages[DELETED], ()),
        Detection(damages[SWAPPED], ("refused",)),
    ]
    rows = {str(row["kind"]): row for row in detection_rates(detections)}
    assert list(rows) == list(KINDS)
    assert rows[INTACT]["false_alarms"] == rows[INTACT]["whole_transcript_false_alarms"] == 0.25
    assert rows[INSERTED]["recall"] == 1.0 and rows[INSERTED]["named"] == 0.5
    assert rows[INSERTED]["precision"] == 1.0 / 1.25
    assert rows[DELETED]["recall"] == 0.5 and rows[DELETED]["precision"] == 0.5 / 0.75
    assert rows[SWAPPED]["named"] == 1.0
    assert rows[REPLACED]["texts"] == 0 and "recall" not in rows[REPLACED]

"""Where errors are, against counts made by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from speechmm.evaluation import breakdowns
from speechmm.evaluation.error_rate import score_texts
from speechmm.evaluation.scoring import Scored, other_rates, score_files

ROWS = [
    ("a", "one two three four", "one too three four five", 1.5),
    ("b", "red blue", "blue", 7.0),
    ("c", "", "noise", 25.0),
    ("d", "x" * 3, "x" * 3, 1.0),
]


@pytest.fixture
def scored(tmp_path: Path) -> Scored:
    for name, column in (("ref", 1), ("hyp", 2)):
        lines = [f"{row[column]} ({row[0]})" for row in ROWS]
        (tmp_path / f"{name}.trn").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = score_files(tmp_path / "hyp.trn", tmp_path / "ref.trn", "basic")
    sources = [replace(s, duration=row[3]) for s, row in zip(found.sources, ROWS, strict=True)]
    return replace(found, sources=sources)


def test_durations(scored: Scored) -> None:
    found = [
        (row["seconds_from"], row["seconds_to"], row["utterances"], row["value"])
        for row in breakdowns.by_duration(scored)
    ]
    assert found == [
        (1.0, 2.0, 2, 2 / 5),  # the lower end belongs to the group, the upper does not
        (5.0, 10.0, 1, 1 / 2),
        (20.0, None, 1, 1.0),
    ]


def test_places(scored: Scored) -> None:
    rows = breakdowns.by_position(scored.words)
    assert sum(row["reference_words"] for row in rows) == 7
    by_place = {row["from"]: row for row in rows}
    assert by_place[0.3]["substitutions"] == 1  # "two" is from 25 to 50 %
    assert by_place[0.2]["deletions"] == 1  # "red" is the first half of its utterance
    assert by_place[0.9]["insertions"] == 1  # "five", behind everything
    assert by_place[0.0]["insertions"] == 1  # "noise", where there is nothing
    assert sum(row["substitutions"] + row["deletions"] + row["insertions"] for row in rows) == 4


def test_places_of_many_words_are_even() -> None:
    (one,) = score_texts([" ".join(map(str, range(1000)))], [""])
    assert [row["deletions"] for row in breakdowns.by_position([one])] == [100] * 10


def test_characters(scored: Scored) -> None:
    found = breakdowns.confusions(scored.characters, most=3)
    assert len(found) == 3
    assert found == sorted(found, key=lambda row: -row["count"])


def test_words_that_were_never_seen(scored: Scored) -> None:
    found = breakdowns.out_of_vocabulary(scored.words, {"one", "two", "red", "xxx"})
    assert (found["reference_words"], found["wrong"]) == (3, 0)  # three, four, blue
    assert (found["known_reference_words"], found["known_wrong"]) == (4, 2)  # two, red are wrong
    assert found["share"] == 3 / 7
    assert found["most_frequent"][0] == {"word": "blue", "count": 1}


def test_other_normalizers(tmp_path: Path) -> None:
    (tmp_path / "ref.txt").write_text("Don't go, twenty\nyes\n", encoding="utf-8")
    (tmp_path / "hyp.txt").write_text("do not go 20\nyes\n", encoding="utf-8")
    found = other_rates(tmp_path / "hyp.txt", tmp_path / "ref.txt", "basic")
    assert found["english"] == {"wer": 0.0, "utterances": 2}
    assert found["verbatim"] == {"wer": 4 / 4, "utterances": 2}
    assert "basic" not in found


def test_other_normalizers_of_many_are_those_of_some(tmp_path: Path) -> None:
    lines = "".join(f"word {number}\n" for number in range(50))
    for name in ("ref", "hyp"):
        (tmp_path / f"{name}.txt").write_text(lines, encoding="utf-8")
    found = other_rates(tmp_path / "hyp.txt", tmp_path / "ref.txt", "basic", most=20)
    assert all(row == {"wer": 0.0, "utterances": 20} for row in found.values())

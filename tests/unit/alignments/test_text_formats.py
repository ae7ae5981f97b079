"""Ids in every form files give them, trn and stm, and subtitles as players and editors write them."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmm.alignments import Alignment, Segment, read_alignments, write_alignments
from speechmm.alignments.ids import escaped_id, id_without_spaces, match_ids
from speechmm.alignments.subtitle_files import read_subtitles
from speechmm.alignments.trn_stm import (
    StmRow,
    is_trn_line,
    parse_stm_line,
    parse_trn_line,
    stm_line,
    trn_line,
)
from speechmm.errors import AlignmentError, ManifestError
from speechmm.files.atomic import safe_name

LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
IDS = st.one_of(
    st.text(LETTERS, min_size=1, max_size=12),
    st.lists(st.deferred(lambda: HARD_SIGNS), min_size=1, max_size=6).map("".join),
)
HARD_SIGNS = st.sampled_from(
    ["%20", "%257B", "%7D", "(", ")", ";;", "@", "{", "_", " ", "|", '"', "a"]
)
TEXTS = st.one_of(st.text(LETTERS, max_size=20), st.lists(HARD_SIGNS, max_size=6).map("".join)).map(
    lambda text: " ".join(text.split())
)


@given(IDS, TEXTS)
def test_trn_round_trip(id: str, text: str) -> None:
    found = parse_trn_line(trn_line(id, text).rstrip("\n"))
    assert found is not None and is_trn_line(trn_line(id, text).rstrip("\n"))
    assert found == (id, text)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hello there (memo (1))", ("memo (1)", "hello there")),
        ("(my recording)", ("my recording", "")),
        ("he said (laughs) (u1) ", ("u1", "he said (laughs)")),
        ("no id here", None),
        ("(unfinished", None),
    ],
)
def test_trn_of_other_programs(line: str, found: tuple[str, str] | None) -> None:
    assert parse_trn_line(line) == found


@given(IDS, TEXTS)
def test_stm_round_trip(id: str, text: str) -> None:
    line = stm_line(StmRow(id, "", 0.0, 1.5, text))
    assert parse_stm_line(line) == ("1", StmRow(id, "unknown", 0.0, 1.5, text))


def test_stm_of_other_programs() -> None:
    assert parse_stm_line(";; a comment") is None
    unscored = ("A", StmRow("call", "bob", 1.0, 2.0, "", scored=False))
    assert parse_stm_line("call A bob 1.0 2.0 ignore_time_segment_in_scoring") == unscored
    assert parse_stm_line(stm_line(unscored[1])) == ("1", unscored[1])
    found = parse_stm_line("call A bob 1.0 2.5 <o,f0,male> two words")
    assert found == ("A", StmRow("call", "bob", 1.0, 2.5, "two words"))
    for broken in ("call A bob", "call A bob one 2 x", "call A bob 2.0 1.0 x"):
        with pytest.raises(ValueError, match=r"unpack|float|ends at"):
            parse_stm_line(broken)


@pytest.mark.parametrize("form", [str, safe_name, id_without_spaces, escaped_id])
@pytest.mark.parametrize("other", [str, id_without_spaces, escaped_id])
@pytest.mark.parametrize("id", ["memo (1)", "it's [take] 100%", "a/b  c", "café 日本", "x" * 250])
def test_ids_match_in_every_form(id: str, form, other) -> None:
    assert match_ids({form(id): 1, "z": 2}, {other(id), "y"}) == {other(id): 1, "z": 2}


def test_ids_that_could_be_two_are_left_alone() -> None:
    assert match_ids({"a_b": 1}, {"a b", "a  b"}) == {"a_b": 1}
    assert match_ids({"a b": 1, "a%20b": 2}, {"a_b"}) == {"a b": 1, "a%20b": 2}
    assert match_ids({"a b": 1, "a_b": 2}, {"a_b"}) == {"a b": 1, "a_b": 2}


@given(st.lists(IDS, unique=True, max_size=6), st.lists(IDS, unique=True, max_size=6))
def test_matching_keeps_every_value_once(found: list[str], references: list[str]) -> None:
    matched = match_ids(dict(zip(found, range(len(found)), strict=True)), references)
    assert sorted(matched.values()) == list(range(len(found)))
    assert all(matched[id] == found.index(id) for id in set(found) & set(references))


LABELS = TEXTS.map(lambda text: "".join(text.split())).filter(bool)


@given(st.lists(IDS, unique=True, min_size=1, max_size=3), st.lists(LABELS, min_size=1, max_size=3))
@pytest.mark.parametrize("format", ["ctm", "jsonl", "textgrid"])
def test_ids_and_words_come_back(
    tmp_path_factory: pytest.TempPathFactory, format: str, ids: list[str], labels: list[str]
) -> None:
    words = [Segment(label=label, start=float(at), end=at + 0.5) for at, label in enumerate(labels)]
    folder = tmp_path_factory.mktemp("formats")
    out = folder / ("out" if format == "textgrid" else f"out.{format}")
    written = [Alignment(id=id, duration=9.0, units={"word": words}) for id in ids]
    write_alignments(written, out, format)
    found = {one.id: [word.label for word in one.words] for one in read_alignments(out)}
    assert found == dict.fromkeys(ids, labels)


def test_recordings_whose_names_are_alike_have_different_ids_in_a_ctm(tmp_path: Path) -> None:
    word = {"word": [Segment(label="x", start=0.0, end=0.5)]}
    ids = ["a b", "a_b", "a  b", "a%20b", "(a) b", ";;a"]
    written = [Alignment(id=id, duration=1.0, units=word) for id in ids]
    write_alignments(written, tmp_path / "a.ctm", "ctm")
    names = [line.split()[0] for line in (tmp_path / "a.ctm").read_text().splitlines()]
    assert names[:4] == ["a%20b", "a_b", "a%20%20b", "a%2520b"]
    assert [one.id for one in read_alignments(tmp_path / "a.ctm")] == ids


@pytest.mark.parametrize("unknown", ["NA", "-", "na", "N/A"])
def test_ctm_of_other_programs(tmp_path: Path, unknown: str) -> None:
    (tmp_path / "words").write_text(f"u1 A 0.40 .3 turn {unknown} lex anna\nu1 A 0.7 0.3 on 0.5\n")
    (found,) = read_alignments(tmp_path / "words")
    assert [(word.label, word.confidence) for word in found.words] == [("turn", None), ("on", 0.5)]


SRT = """\ufeff1\r
00:00:01,500 --> 00:00:02,250 X1:40\r
<i>Hello</i> {\\an8}there,\r
you & <me>\r
\r
2\r
01:00:00,000 --> 01:00:01,000\r
- 3 < 4\r
"""
VTT = """WEBVTT - a title

NOTE this is no cue

intro
00:01.500 --> 00:02.250 line:0
<v Ann>Hello</v> <c.loud>there</c>, you &amp; &lt;me&gt;

01:00:00.000 --> 01:00:01.000
- 3 &lt; 4
"""


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("a.srt", SRT, "Hello there, you & <me>"),
        ("a.vtt", VTT, "Hello there, you & <me>"),
        ("a", VTT, "Hello there, you & <me>"),
    ],
)
def test_subtitles_of_other_programs(tmp_path: Path, name: str, text: str, first: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_subtitles(tmp_path / name) == [
        Segment(label=first, start=1.5, end=2.25),
        Segment(label="- 3 < 4", start=3600.0, end=3601.0),
    ]


@pytest.mark.parametrize("format", ["srt", "vtt", "ass"])
def test_subtitles_round_trip(tmp_path: Path, format: str) -> None:
    labels = ["{c}", "&<d>", "\\N", "a,b", "it's", '"x"', "fin."]
    words = [
        Segment(label=label, start=at / 2, end=at / 2 + 0.4) for at, label in enumerate(labels)
    ]
    path = tmp_path / f"a.{format}"
    write_alignments([Alignment(id="a", duration=9.0, units={"word": words})], path, format)
    (cue,) = read_subtitles(path)
    assert cue == Segment(label=" ".join(labels), start=0.0, end=3.4)
    with pytest.raises(AlignmentError, match=rf"a\.{format}: subtitles say when a line is shown"):
        read_alignments(path)


def test_a_broken_line_of_ass_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ass").write_text("[Events]\nDialogue: 0,now,then,Default,,0,0,0,,hello\n")
    with pytest.raises(ManifestError, match=r"a\.ass:2: .*expected ten fields"):
        read_subtitles(tmp_path / "a.ass")


def test_reading_many_utterances_takes_steps_in_proportion(tmp_path: Path) -> None:
    def lines_run(count: int) -> int:
        path = tmp_path / "a.ctm"
        path.write_text("".join(f"u{n} 1 0.1 0.2 a\n" for n in range(count)))
        run = 0

        def note(frame: FrameType, event: str, _: object) -> Callable[..., object]:
            nonlocal run
            run += event == "line"
            return note

        before = sys.gettrace()
        sys.settrace(note)
        try:
            found = read_alignments(path)
        finally:
            sys.settrace(before)
        assert len(found) == count
        return run

    few = lines_run(50)
    assert few > 50
    assert (
        lines_run(500) < 12 * few
    )  # ten times as many; squares would take a hundred times as long

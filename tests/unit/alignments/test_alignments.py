"""Files of alignments: what is written can be read, by speechmm and by others."""

import gzip
import json
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmm.alignments import Alignment, Segment, group_words, read_alignments, write_alignments
from speechmm.alignments.durations import unit_durations
from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import AlignmentError, ConfigError

FORMATS = ("textgrid", "ctm", "srt", "vtt", "ass", "jsonl", "durations")
ODD_IDS = ["a/b c", "a_b/c", "a%2Fb", "ünï 日本", 'it\'s "x"', "..", "-v", "x" * 300, "y" * 299]


def segment(label: str, start: float, end: float, confidence: float | None = None) -> Segment:
    return Segment(label=label, start=start, end=end, confidence=confidence)


def spoken(id: str = "a", duration: float = 1.5) -> Alignment:
    """Two words with a gap before, between and after them."""
    return Alignment(
        id=id,
        audio="sounds/a.wav",
        duration=duration,
        units={
            "word": [segment('"Ab,"', 0.1, 0.4, 0.9), segment("{c}&<d>", 0.55, 1.2, 0.25)],
            "char": [
                segment("a", 0.1, 0.25, 0.9),
                segment("b", 0.25, 0.4, 0.8),
                segment("ç", 0.55, 0.7, 0.3),
                segment("d", 0.7, 1.2, 0.2),
            ],
        },
        confidence=0.5,
        flags=("low_confidence",),
    )


def spans(alignment: Alignment, unit: str) -> list[tuple[str, float, float]]:
    """Labels and times in seconds, to a millisecond."""
    return [(one.label, round(one.start, 3), round(one.end, 3)) for one in alignment.units[unit]]


def test_jsonl_keeps_everything(tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.jsonl"
    written = [spoken("a/b"), spoken("ünï"), Alignment(id="silent", duration=0.3)]
    write_alignments(written, out, "jsonl")
    assert read_alignments(out) == written
    assert json.loads(out.read_text("utf-8").splitlines()[0]) == written[0].to_dict()
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(out.read_bytes()))
    assert read_alignments(packed) == written
    assert list(read_alignments(out, units=["char"])[0].units) == ["char"]


def test_ctm_holds_the_first_unit(tmp_path: Path) -> None:
    out = tmp_path / "a.ctm"
    write_alignments([spoken("a"), spoken("b")], out, "ctm")
    found = read_alignments(out)
    assert [one.id for one in found] == ["a", "b"]
    assert spans(found[0], "word") == spans(spoken(), "word")
    assert [word.confidence for word in found[0].words] == [0.9, 0.25]
    assert out.read_text().splitlines()[0] == 'a 1 0.100 0.300 "Ab," 0.9000'
    assert list(read_alignments(out, units=["phone"])[0].units) == ["phone"]


def test_ctm_of_ids_and_labels_with_spaces(tmp_path: Path) -> None:
    out = tmp_path / "a.ctm"
    words = [segment("New York", 0.0, 0.5), segment("", 0.5, 0.6), segment("x", 0.6, 0.7)]
    write_alignments([Alignment(id="a b\tc", duration=1.0, units={"word": words})], out, "ctm")
    (found,) = read_alignments(out)
    assert (found.id, [word.label for word in found.words]) == ("a b\tc", ["New_York", "x"])
    with pytest.raises(AlignmentError, match="two alignments have this id"):
        write_alignments([spoken("a b"), spoken("a b")], tmp_path / "b.ctm", "ctm")
    assert not (tmp_path / "b.ctm").exists()


def test_ctm_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text("\ufeff;; comment\n\nb A 1.0 0.5 two NA\nb A 0.2 .3 one 0.5\n", "utf-8")
    (found,) = read_alignments(path)
    assert spans(found, "word") == [("one", 0.2, 0.5), ("two", 1.0, 1.5)]
    assert [word.confidence for word in found.words] == [0.5, None]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_textgrid_round_trip(tmp_path: Path, encoding: str) -> None:
    write_alignments([spoken("a/b"), spoken("c")], tmp_path / "grids", "textgrid")
    for path in (tmp_path / "grids").iterdir():
        path.write_text(path.read_text("utf-8"), encoding)
    found = {one.id: one for one in read_alignments(tmp_path / "grids")}
    assert sorted(found) == ["a/b", "c"]
    for one in found.values():
        assert one.duration == 1.5
        assert {unit: spans(one, unit) for unit in one.units} == {
            unit: spans(spoken(), unit) for unit in ("word", "char")
        }
    (single,) = read_alignments(tmp_path / "grids" / "c.TextGrid")
    assert single == found["c"]


def test_textgrid_intervals_cover_the_audio(tmp_path: Path) -> None:
    from praatio import textgrid

    write_alignments([spoken()], tmp_path / "a.TextGrid", "textgrid")
    grid = textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    for tier in grid.tiers:
        edges = [(entry.start, entry.end) for entry in tier.entries]
        assert edges[0][0] == 0.0 and edges[-1][1] == 1.5
        assert all(end == start for (_, end), (start, _) in pairwise(edges))


def test_textgrid_of_segments_that_touch_but_for_rounding(tmp_path: Path) -> None:
    words = [segment("a", 0.1, 0.3 + 1e-9), segment("b", 0.1 + 0.2, 1 / 3)]
    one = Alignment(id="a", duration=1 / 3, units={"word": words, "char": []})
    write_alignments([one], tmp_path / "a.TextGrid", "textgrid")
    (found,) = read_alignments(tmp_path / "a.TextGrid")
    assert [word.label for word in found.words] == ["a", "b"]


@pytest.mark.parametrize("format", FORMATS)
def test_words_of_no_length(tmp_path: Path, format: str) -> None:
    words = [segment("a", 0.1, 0.5), segment("-", 0.5, 0.5), segment("b", 0.6, 0.7)]
    words += [segment("...", 0.7, 0.7)]
    out = tmp_path / "out"
    write_alignments([Alignment(id="a", duration=0.9, units={"word": words})], out, format)
    assert out.exists()
    if format == "textgrid":
        assert spans(read_alignments(out)[0], "word") == [("a", 0.1, 0.5), ("b", 0.6, 0.7)]
    if format in ("jsonl", "ctm"):
        assert [word.label for word in read_alignments(out)[0].words] == ["a", "-", "b", "..."]


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    written = [spoken("caf\udce9"), spoken("café")]
    for format in ("jsonl", "textgrid"):
        write_alignments(written, tmp_path / format, format)
        ids = {one.id for one in read_alignments(tmp_path / format)}
        assert ids == {"caf\udce9", "café"}
    assert "café" in (tmp_path / "jsonl").read_text("utf-8")


def test_textgrid_of_overlapping_segments(tmp_path: Path) -> None:
    words = [segment("a", 0.1, 0.5), segment("b", 0.4, 0.6)]
    with pytest.raises(
        AlignmentError, match=r"the word 'b' from 0\.4 to 0\.6 s begins before 0\.5 s"
    ):
        write_alignments(
            [Alignment(id="a", duration=1.0, units={"word": words})], tmp_path / "o", "textgrid"
        )


@pytest.mark.parametrize("format", FORMATS)
def test_odd_ids_have_files_of_their_own(tmp_path: Path, format: str) -> None:
    out = tmp_path / f"out-{format}"
    write_alignments(map(spoken, ODD_IDS), out, format)
    if format in ("jsonl", "ctm"):
        assert out.is_file() and len(read_alignments(out)) == len(ODD_IDS)
        return
    files = [path for path in out.iterdir() if path.name != "durations.txt"]
    assert len(files) == len({path.name.casefold() for path in files}) == len(ODD_IDS)
    if format == "textgrid":
        short = {id for id in ODD_IDS if len(id) < 100}
        assert short <= {one.id for one in read_alignments(out)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_id_twice(tmp_path: Path, format: str) -> None:
    with pytest.raises(AlignmentError, match="a: two alignments have this id"):
        write_alignments([spoken(), spoken()], tmp_path / "out", format)


def test_srt(tmp_path: Path) -> None:
    write_alignments([spoken()], tmp_path / "a.srt", "srt")
    assert (tmp_path / "a.srt").read_text("utf-8") == (
        '1\n00:00:00,100 --> 00:00:01,200\n"Ab," {c}&<d>\n'
    )


def test_vtt(tmp_path: Path) -> None:
    write_alignments([spoken()], tmp_path / "a.vtt", "vtt")
    assert (tmp_path / "a.vtt").read_text("utf-8") == (
        'WEBVTT\n\n00:00:00.100 --> 00:00:01.200\n"Ab," {c}&amp;&lt;d&gt;\n'
    )


def test_ass_marks_every_word(tmp_path: Path) -> None:
    write_alignments([spoken()], tmp_path / "a.ass", "ass")
    last = (tmp_path / "a.ass").read_text("utf-8").splitlines()[-1]
    assert last == (
        "Dialogue: 0,0:00:00.10,0:00:01.20,Default,,0,0,0,,"
        r'{\k30}"Ab," {\k15}{\k65}\{c\}&<d>'
    )


def test_long_speech_becomes_many_subtitles(tmp_path: Path) -> None:
    words = [segment(f"word{n}", 0.3 * n, 0.3 * n + 0.25) for n in range(14_000)]
    words[50] = segment("end.", 15.0, 15.25)
    one = Alignment(id="a", duration=4300.0, units={"word": words})
    write_alignments([one], tmp_path / "a.srt", "srt")
    blocks = (tmp_path / "a.srt").read_text("utf-8").rstrip("\n").split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == [str(n + 1) for n in range(len(blocks))]
    lines = [line for block in blocks for line in block.split("\n")[2:]]
    assert " ".join(lines).split() == [word.label for word in words]
    assert max(map(len, lines)) <= 42
    assert max(len(block.split("\n")) for block in blocks) <= 4  # number, times, two lines
    assert any(block.endswith("end.") for block in blocks)
    assert "01:09:5" in blocks[-1]


@pytest.mark.parametrize("sign", ["-", "—", "♪", "...", "🙂"])
def test_a_sign_shares_the_cue_of_the_word_after_it(sign: str) -> None:
    words = [segment(sign, 0.0, 0.0), segment("Call", 4.1, 4.4), segment("please!", 4.5, 5.0)]
    words += [segment("-", 5.0, 5.0), segment("Turn", 6.2, 6.5), segment("on.", 6.5, 6.9)]
    assert group_words(words) == [
        segment(f"{sign} Call please!", 4.1, 5.0),
        segment("- Turn on.", 6.2, 6.9),
    ]


def test_signs_inside_and_at_the_end_of_a_cue() -> None:
    words = [segment("well", 0.1, 0.4), segment("...", 0.4, 0.4), segment("I", 1.5, 1.6)]
    words += [segment("-", 1.6, 1.6), segment("see", 1.7, 2.0), segment("♪", 2.0, 2.0)]
    cues = group_words(words)
    assert [(cue.label, cue.start, cue.end) for cue in cues] == [
        ("well ...", 0.1, 0.4),
        ("I - see ♪", 1.5, 2.0),
    ]
    assert group_words([segment("-", 0.0, 0.0)]) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b.", "-", "...", "♪", "longer"]),
            st.sampled_from([0.0, 0.3, 1.0]),
            st.sampled_from([0.0, 0.2, 4.0]),
        ),
        max_size=12,
    )
)
def test_every_cue_is_shown_for_a_while_and_in_order(rows: list[tuple[str, float, float]]) -> None:
    now, words = 0.0, []
    for label, pause, length in rows:
        begin = now if label in ("-", "...", "♪") else now + pause
        now = begin if label in ("-", "...", "♪") else begin + length + 0.1
        words.append(segment(label, begin, now))
    cues = group_words(words)
    assert all(cue.start < cue.end for cue in cues)
    assert all(one.end <= other.start for one, other in pairwise(cues))
    spoken = any(word.end > word.start for word in words)
    labels = [word.label for word in words] if spoken else []
    assert " ".join(cue.label for cue in cues).split() == labels


@pytest.mark.parametrize("format", ["srt", "vtt", "ass", "textgrid"])
def test_one_file_is_for_one_alignment(tmp_path: Path, format: str) -> None:
    out = tmp_path / ("a.TextGrid" if format == "textgrid" else f"a.{format}")
    with pytest.raises(ConfigError, match="it is one file, and there are several"):
        write_alignments([spoken("a"), spoken("b")], out, format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frame_shift", [0.01, 0.0125, 256 / 22050])
@pytest.mark.parametrize("duration", [1.2, 1.5, 1.999, 1.20001])
def test_durations_add_up(tmp_path: Path, frame_shift: float, duration: float) -> None:
    write_alignments([spoken("a/b", duration)], tmp_path, "durations", frame_shift=frame_shift)
    frames = np.load(tmp_path / "a%2Fb.npy")
    assert frames.dtype == np.int64 and frames.min() >= 0
    samples = round(duration * 100_000)
    assert frames.sum() == 1 + int(samples / (100_000 * frame_shift) + 1e-6)
    name, labels, numbers = (tmp_path / "durations.txt").read_text("utf-8").rstrip().split("|")
    assert name == "a%2Fb"
    assert [int(number) for number in numbers.split()] == frames.tolist()
    assert [label for label in labels.split() if label != "<sil>"] == list("abçd")
    edges = np.cumsum(frames) * frame_shift
    for time in (0.1, 0.25, 0.4, 0.55, 0.7):
        assert np.abs(edges - time).min() <= frame_shift / 2 + 1e-6
    # The frame that stands at the end of the audio belongs to what ends there.
    assert np.abs(edges - 1.2).min() <= frame_shift + 1e-6


@pytest.mark.parametrize("hop", [160, 200, 256, 320])
@pytest.mark.parametrize(
    "samples", [1, 159, 160, 161, 256 * 50, 48_384, 49_000 + 7, 3_600 * 16_000]
)
def test_durations_are_as_many_as_frames_of_log_mel(hop: int, samples: int) -> None:
    features = LogMelConfig(hop_length=hop)
    whole = [segment("a", 0.0, samples / 16_000)]
    one = Alignment(id="a", duration=samples / 16_000, units={"word": whole})
    labels, frames = unit_durations(one, features.frame_shift)
    assert sum(frames) == features.num_frames(samples) == 1 + samples // hop
    assert labels == ["a"] or samples < hop


def test_labels_of_durations_keep_their_columns(tmp_path: Path) -> None:
    words = [segment("a|b", 0.0, 0.1), segment("%7C", 0.1, 0.2), segment("5%", 0.2, 0.3)]
    one = Alignment(id="x|y", duration=0.3, units={"word": words})
    write_alignments([one], tmp_path, "durations")
    (line,) = (tmp_path / "durations.txt").read_text().splitlines()
    assert line == "x%7Cy|a%7Cb %257C 5%|10 10 11"
    assert [unquote(label) for label in line.split("|")[1].split()] == ["a|b", "%7C", "5%"]


def test_an_unfinished_file_does_not_appear(tmp_path: Path) -> None:
    def broken():
        yield spoken("a")
        raise RuntimeError("stop")

    (tmp_path / "a.jsonl").write_text("old")
    with pytest.raises(RuntimeError, match="stop"):
        write_alignments(broken(), tmp_path / "a.jsonl", "jsonl")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 'docx'; expected one of textgrid, ctm"):
        write_alignments([spoken()], tmp_path / "a", "docx")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"id": "a"}\n', r"a\.jsonl:1: "),
        ("a.jsonl", '{"id": "a", "duration": 1, "units": {}}\n{"id\n', r"a\.jsonl:2: "),
        ("a.jsonl", '{"id": "a", "duration": 1, "units": {}}\n' * 2, "a second time"),
        ("a.jsonl", "", "no alignment is in it"),
        (
            "a.jsonl",
            '{"id": "a", "duration": 1, "units": {"word": [{"label": "x", "start": 2, "end": 1}]}}',
            "expected start <= end",
        ),
        ("a.ctm", "a 1 0.1 0.2\n", r"a\.ctm:1: .*is not a line of ctm"),
        ("a.ctm", "a 1 0.1 0.2 ok\na 1 x 0.2 no\n", r"a\.ctm:2: "),
        ("a.ctm", "a 1 0.1 nan no\n", r"a\.ctm:1: "),
        ("a.ctm", "a 1 0.1 -0.2 no\n", r"a\.ctm:1: .*expected start <= end"),
        ("a.TextGrid", "these are words\n", "cannot be read as a TextGrid"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(AlignmentError, match=message):
        read_alignments(tmp_path / name)


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(AlignmentError, match=r"none\.ctm: cannot be read"):
        read_alignments(tmp_path / "none.ctm")
    with pytest.raises(AlignmentError, match="no TextGrid is in this folder"):
        read_alignments(tmp_path)
    (tmp_path / "a.ctm").write_bytes(b"caf\xe9 1 0 1 x\n")
    with pytest.raises(AlignmentError, match=r"a\.ctm:1: byte 0xe9 .* is not UTF-8"):
        read_alignments(tmp_path / "a.ctm")


def with_ranges() -> Alignment:
    first = Segment(label="a", start=0.1, end=0.3, start_range=(0.08, 0.12), end_range=(0.28, 0.31))
    second = Segment(label="b", start=0.3, end=0.5, start_range=(0.29, 0.33), end_range=(0.5, 0.5))
    return Alignment(id="u", duration=0.5, units={"word": [first, second]})


def test_ranges_of_edges_are_kept_and_move_with_their_segments(tmp_path: Path) -> None:
    write_alignments([with_ranges()], tmp_path / "a.jsonl", "jsonl")
    (found,) = read_alignments(tmp_path / "a.jsonl")
    assert found.words[0].start_range == (0.08, 0.12)
    assert found.words[1].end_range == (0.5, 0.5)
    assert found.words[0].later(1.0).end_range == pytest.approx((1.28, 1.31))
    damaged = (tmp_path / "a.jsonl").read_text().replace("[0.08, 0.12]", "[0.12, 0.08]")
    (tmp_path / "a.jsonl").write_text(damaged)
    with pytest.raises(AlignmentError, match="range"):
        read_alignments(tmp_path / "a.jsonl")


def test_ranges_are_points_in_a_textgrid(tmp_path: Path) -> None:
    write_alignments([with_ranges()], tmp_path, "textgrid", ranges=True)
    text = (tmp_path / "u.TextGrid").read_text()
    assert 'class = "TextTier"' in text
    assert "points: size = 3" in text
    assert 'mark = "0.280-0.330"' in text  # of the edge that both words share
    (found,) = read_alignments(tmp_path / "u.TextGrid")
    assert [word.label for word in found.words] == ["a", "b"]

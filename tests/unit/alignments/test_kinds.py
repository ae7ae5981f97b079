"""What a file is, is told once: texts, alignments and language models see the same."""

import gzip
import json
from pathlib import Path

import pytest

from speechmm.alignments import read_alignments
from speechmm.alignments.kinds import FileKind, kind_of
from speechmm.data.skips import SkipReport
from speechmm.data.texts import read_texts
from speechmm.errors import AlignmentError
from speechmm.evaluation.text_sets import read_text_set

CTM = "u1 1 0.00 0.50 hello\nu1 1 0.50 0.40 world\n"
GRID = 'File type = "ooTextFile"\nObject class = "TextGrid"\n'
CUT = {
    "id": "u1",
    "start": 0.0,
    "duration": 1.0,
    "channel": 0,
    "supervisions": [
        {"id": "u1", "recording_id": "u1", "start": 0.0, "duration": 1.0, "text": "hello world"}
    ],
    "recording": {
        "id": "u1",
        "sources": [{"type": "file", "channels": [0], "source": "/a.wav"}],
        "sampling_rate": 16000,
        "num_samples": 16000,
        "duration": 1.0,
    },
    "type": "MonoCut",
}


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.jsonl", '{"id": "u1", "text": "a"}', "jsonl"),
        ("a.jsonl", "no JSON", "jsonl"),
        ("a", '\n{"id": "u1", "te', "jsonl"),
        ("a.jsonl", '\n{"id": "u1", "supervisions": []}', "cuts"),
        ("a.txt", '{"id": "u1", "type": "MultiCut"}', "cuts"),
        ("a.txt", "{laughs} and goes", "plain"),
        ("a.trn", "words", "trn"),
        ("a.txt", "words (u1)\nmore (u2)", "trn"),
        ("a.txt", "oh (laughs)\nah (laughs)", "plain"),
        ("a.stm", CTM, "stm"),
        ("a.txt", ";; of a recogniser\n" + CTM, "ctm"),
        ("a.ctm", "", "ctm"),
        ("a.TextGrid", "", "textgrid"),
        ("a.txt", GRID, "textgrid"),
        ("a.srt", "", "subtitles"),
        ("a.txt", "WEBVTT\n", "subtitles"),
        ("a.txt", "1\n00:00:00,000 --> 00:00:01,000\nhello", "subtitles"),
        ("text", CTM, "kaldi"),
        ("a.text", "u1 hello", "kaldi"),
        ("a.txt", "", "plain"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_kinds(name: str, content: str, kind: FileKind, packed: bool, tmp_path: Path) -> None:
    data = content.encode()
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert kind_of(path) == kind


def test_marks_and_utf16_do_not_hide_what_a_file_is(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a").write_text('{"id": "u1", "supervisions": []}', encoding=encoding)
        assert kind_of(tmp_path / "a") == "cuts"


def test_what_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"supervisions": []}' * 99)[:30])
    assert kind_of(tmp_path / "a.jsonl.gz") == "jsonl"
    assert kind_of(tmp_path / "nowhere.ctm") == "ctm"


@pytest.mark.parametrize("name", ["a.ctm", "a.ctm.gz", "a.gz", "a"])
def test_texts_and_alignments_agree_on_a_packed_ctm(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(CTM.encode()) if name.endswith(".gz") else CTM.encode())
    (found,) = read_alignments(path)
    assert [word.label for word in found.units["word"]] == ["hello", "world"]
    assert read_text_set(path).by_id["u1"].text == "hello world"


def test_subtitles_of_any_name_are_no_alignment(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n")
    with pytest.raises(AlignmentError, match="subtitles say when a line is shown"):
        read_alignments(tmp_path / "a.txt")


def test_cuts_of_any_name_are_texts_to_learn_from(tmp_path: Path) -> None:
    row = json.dumps(CUT).encode() + b"\n"
    for name, data in (("cuts.jsonl", row), ("cuts", row), ("packed", gzip.compress(row))):
        (tmp_path / name).write_bytes(data)
        assert list(read_texts(tmp_path / name, SkipReport())) == ["hello world"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text", "u1 hello world\nu2 and so on\n"),
        ("a.trn", "hello world (u1)\n;; a comment\nand so on (u2)\n"),
        ("a.stm", "u1 1 s 0 1 <o> hello world\nu2 1 s 1 2 and so on\n"),
        ("a.ctm", "u1 1 0 1 hello\nu1 1 1 1 SIL\nu1 1 2 1 world\nu2 1 0 1 and\nu2 1 1 1 so\nu2 1 2 1 on\n"),
        ("a.srt", "1\n00:00:00,000 --> 00:00:01,000\nhello world\n\n"
                  "2\n00:00:01,000 --> 00:00:02,000\nand so on\n"),
        ("a.txt", "hello world\nand so on\n"),
    ],
)  # fmt: skip
def test_ids_and_times_are_no_words_to_learn(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert list(read_texts(tmp_path / name, SkipReport())) == ["hello world", "and so on"]


def test_a_line_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.stm").write_text("u1 1 s 0 1 hello\nu2 1 s\n")
    skipped = SkipReport()
    assert list(read_texts(tmp_path / "a.stm", skipped)) == ["hello"]
    assert [item for item, _ in skipped.items] == [f"{tmp_path / 'a.stm'}:2"]

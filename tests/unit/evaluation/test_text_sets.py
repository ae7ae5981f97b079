"""Every format of texts is read, matched and written as it should be."""

import gzip
import json
from pathlib import Path

import pytest

from speechmm.errors import ConfigError, ManifestError
from speechmm.evaluation.sclite_files import write_trn
from speechmm.evaluation.scoring import Scored, score_files
from speechmm.evaluation.text_sets import read_text_set

CUT = {
    "id": "u1",
    "start": 1.5,
    "duration": 2.0,
    "channel": 0,
    "supervisions": [{"id": "u1", "text": "Hello world", "speaker": "ann"}],
    "recording": {"id": "u1", "sources": [{"type": "file", "source": "/data/a b.wav"}]},
    "type": "MonoCut",
}
ROWS = {"u1": "Hello world", "u2": "two"}
FILES = {
    "hyp.jsonl": '{"id": "u1", "text": "Hello world"}\n\n{"id": "u2", "text": "two"}\n',
    "hyp.trn": ";; a comment\nHello world (u1)\ntwo (u2)\n",
    "hyp.txt": "Hello world (u1)\ntwo (u2)\n",
    "text": "u1 Hello world\nu2\ttwo\n",
    "hyp.text": "u1  Hello  world \r\nu2 two\r\n",
    "hyp": '{"id": "u1", "text": "Hello world"}\n{"id": "u2", "text": "two"}\n',
}


def texts_of(path: Path) -> dict[str, str]:
    return {id: " ".join(one.text.split()) for id, one in read_text_set(path).by_id.items()}


@pytest.mark.parametrize("name", FILES)
def test_formats_with_ids(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert texts_of(tmp_path / name) == ROWS


def test_plain_lines_count_by_position_empty_ones_too(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n\nthree", encoding="utf-8")
    found = read_text_set(tmp_path / "lines.txt")
    assert found.plain
    assert [one.text for one in found.by_id.values()] == ["one", "", "three"]


@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.gz"])
def test_cuts_bring_speaker_and_audio(name: str, tmp_path: Path) -> None:
    raw = (json.dumps(CUT) + "\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    one = read_text_set(tmp_path / name).by_id["u1"]
    assert (one.text, one.speaker, one.audio) == ("Hello world", "ann", "/data/a b.wav")
    assert (one.start, one.duration) == (1.5, 2.0)


def test_transcripts_packed_with_gzip(tmp_path: Path) -> None:
    (tmp_path / "hyp.jsonl.gz").write_bytes(gzip.compress(FILES["hyp.jsonl"].encode()))
    assert texts_of(tmp_path / "hyp.jsonl.gz") == ROWS


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (
            "a.jsonl",
            b'{"id": "u1", "text": "x"}\n{"id": "u1", "text": "y"}\n',
            "a.jsonl:2: .*twice",
        ),
        ("a.jsonl", b'{"id": "u1"}\n', "a.jsonl:1: .*KeyError.*text"),
        ("a.jsonl", b'{"id": "u1", "text": null}\n', "not a string"),
        ("a.jsonl", b'{"id": "u1", "text": "x"}\nnonsense\n', "a.jsonl:2: "),
        ("a.trn", b"no id here\n", "a.trn:1: found 'no id here'"),
        ("a.trn", b"a (u1)\nb (u1)\n", '"u1" is there twice'),
        ("text", b"u1 a\nu1 b\n", '"u1" is there twice'),
        ("a.txt", b"", "no utterance"),
        ("a.txt", b"caf\xe9\n", r"a\.txt:1: byte 0xe9 at position 4 .* is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b"x" * 100, mtime=0)[:20], "cannot be read"),
    ],
)
def test_broken_files_are_named(name: str, content: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=match):
        read_text_set(tmp_path / name)


def test_missing_file() -> None:
    with pytest.raises(ManifestError, match=r"nowhere\.trn: not found"):
        read_text_set(Path("nowhere.trn"))


def score(folder: Path, hypothesis: str, reference: str, names: tuple[str, str]) -> Scored:
    (folder / names[0]).write_text(hypothesis, encoding="utf-8")
    (folder / names[1]).write_text(reference, encoding="utf-8")
    return score_files(folder / names[0], folder / names[1], "basic")


def test_ids_on_one_side_only_are_kept_apart(tmp_path: Path) -> None:
    found = score(tmp_path, "a (u1)\nb (u3)\n", "a (u1)\nc d (u2)\n", ("h.trn", "r.trn"))
    assert (found.missing, found.extra) == (["u2"], ["u3"])
    assert [one.counts.deletions for one in found.words] == [0, 2]


@pytest.mark.parametrize("names", [("h.txt", "r.trn"), ("h.trn", "r.txt")])
def test_plain_lines_take_the_other_files_ids(names: tuple[str, str], tmp_path: Path) -> None:
    plain, trn = "A, b!\nc\n", "a b (u1)\nc (u2)\n"
    sides = (plain, trn) if names[0].endswith(".txt") else (trn, plain)
    found = score(tmp_path, *sides, names)
    assert found.ids == ["u1", "u2"]
    assert found.by_order
    assert sum(one.counts.errors for one in found.words) == 0


def test_kaldi_text_under_another_name_is_known_by_its_ids(tmp_path: Path) -> None:
    found = score(tmp_path, "u2 c\nu1 a b\n", "a b (u1)\nc (u2)\n", ("h.txt", "r.trn"))
    assert not found.by_order
    assert sum(one.counts.errors for one in found.words) == 0


def test_plain_lines_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"h.txt: 1 lines, but .*r.txt has 2"):
        score(tmp_path, "a\n", "a\nb\n", ("h.txt", "r.txt"))


def test_nothing_in_common(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no id in common with .*'x1' and 'u1'"):
        score(tmp_path, "a (x1)\n", "a (u1)\n", ("h.trn", "r.trn"))


def test_unknown_normalizer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="verbatim, basic, multilingual, turkish, english"):
        score_files(tmp_path / "a.trn", tmp_path / "b.trn", "basik")


def test_trn_reads_back_what_was_written(tmp_path: Path) -> None:
    write_trn({"s1-u1": "a  b", "s1-u2": "", "a (b) c": "x"}, tmp_path / "a.trn")
    assert texts_of(tmp_path / "a.trn") == {"s1-u1": "a b", "s1-u2": "", "a (b) c": "x"}


KALDI = (
    "utt1 the red door is open\nutt2 seven green cars\nutt3 please wait here\nutt4 a short walk\n"
)
HEARD = (
    "utt3 please wait hear\nutt1 the red door was open\nutt2 seven green cars\nutt4 short walk\n"
)


@pytest.mark.parametrize("separator", [" ", "\t"])
@pytest.mark.parametrize("names", [("h.txt", "r.txt"), ("h.text", "r.text"), ("h.txt", "r.text")])
@pytest.mark.parametrize("in_order", [True, False])
def test_ids_before_the_words_are_no_words(
    separator: str, names: tuple[str, str], in_order: bool, tmp_path: Path
) -> None:
    lines = HEARD.splitlines(keepends=True)
    heard = "".join(sorted(lines) if in_order else lines)
    sides = [text.replace(" ", separator) for text in (heard, KALDI)]
    found = score(tmp_path, sides[0], sides[1], names)
    assert (found.ids, found.by_order) == (["utt1", "utt2", "utt3", "utt4"], False)
    assert sum(one.counts.errors for one in found.words) == 3
    assert sum(one.counts.hits for one in found.words) == 11


def test_an_id_that_one_file_lacks_is_named(tmp_path: Path) -> None:
    found = score(tmp_path, KALDI.replace("utt4 a short walk\n", ""), KALDI, ("h.txt", "r.txt"))
    assert found.missing == ["utt4"]
    assert [one.counts.deletions for one in found.words] == [0, 0, 0, 3]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "hits"),
    [
        ("the red door\nseven cars\nplease wait\n", "the red door\nseven cars\nplease hold\n", 6),
        ("u1 once\n", "u1 once\n", 2),
        ("u1 a\nu1 b\n", "u1 a\nu1 b\n", 4),
        ("42 is it\n7 too\n", "42 is it\n7 two\n", 4),
    ],
)
def test_first_words_of_plain_sentences_are_words(
    hypothesis: str, reference: str, hits: int, tmp_path: Path
) -> None:
    found = score(tmp_path, hypothesis, reference, ("h.txt", "r.txt"))
    assert found.by_order
    assert sum(one.counts.hits for one in found.words) == hits


def test_first_words_in_another_order_are_in_doubt(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"h.txt: .* in another order; expected ids, or texts"):
        score(tmp_path, "bob a b\nann c\neve d\n", "ann c\nbob a b\neve d\n", ("h.txt", "r.txt"))


def test_laughter_at_the_end_of_lines_is_no_id(tmp_path: Path) -> None:
    lines = "yes it is (laughs)\nno way (sighs)\nfine then (laughs)\n"
    found = score(tmp_path, lines, lines, ("h.txt", "r.txt"))
    assert found.by_order
    assert sum(one.counts.hits for one in found.words) == 10
    twice = "yes (u1)\nno (u1)\n"
    with pytest.raises(ManifestError, match='"u1" is there twice'):
        score(tmp_path, twice, twice, ("h.txt", "r.txt"))

"""`speechmm prepare` from outside: files, exit codes, reruns."""

import json
import os
import shutil
from pathlib import Path

import pytest

from speechmm.cli.main import main
from speechmm.data.manifest import read_cuts


@pytest.fixture
def corpus(tmp_path, record) -> Path:
    root = tmp_path / "my corpus"
    for i in range(10):
        record(root / f"u{i}.wav")
        (root / f"u{i}.txt").write_text(f"text {i}")
    return root


def read_report(out: Path):
    return json.loads((out / "prepare.json").read_text())


def test_manifests_and_report(corpus, tmp_path, capsys):
    out = tmp_path / "out" / "deep"
    assert main(["prepare", "folder", str(corpus), str(out)]) == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == [
        "split",
        "train",
        "dev",
        "test",
    ]
    report = read_report(out)
    assert {split: row["utterances"] for split, row in report["splits"].items()} == {
        "train": 8,
        "dev": 1,
        "test": 1,
    }
    assert report["splits"]["train"]["hours"] == pytest.approx(8 * 0.3 / 3600, abs=1e-6)
    assert report["skipped"] == []
    assert len(read_cuts(out / "train.jsonl.gz")) == 8
    assert sorted(path.name for path in out.iterdir()) == [
        "dev.jsonl.gz",
        "prepare.json",
        "test.jsonl.gz",
        "train.jsonl.gz",
    ]


def test_an_unchanged_corpus_is_left_alone(corpus, tmp_path, capsys, caplog):
    out = tmp_path / "out"
    command = ["prepare", "folder", str(corpus), str(out)]
    main(command)
    first = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert main(command) == 0
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == first
    assert capsys.readouterr().out.count("train") == 2  # the table is printed again


@pytest.mark.parametrize("change", ["audio", "text", "new", "option", "output"])
def test_a_change_is_noticed(corpus, tmp_path, record, change):
    out = tmp_path / "out"
    command = ["prepare", "folder", str(corpus), str(out)]
    main(command)
    first = (out / "prepare.json").stat().st_mtime_ns
    if change == "audio":
        record(corpus / "u1.wav", 0.5)
    elif change == "text":
        os.utime(corpus / "u1.txt", ns=(1, 1))
    elif change == "new":
        record(corpus / "more.wav")
        (corpus / "more.txt").write_text("more")
    elif change == "option":
        command += ["--seed", "1"]
    else:
        (out / "dev.jsonl.gz").unlink()
    assert main(command) == 0
    assert (out / "prepare.json").stat().st_mtime_ns != first
    assert (out / "dev.jsonl.gz").is_file()


def test_a_table_and_audio_outside_the_corpus_are_watched(tmp_path, record, corpus):
    elsewhere = tmp_path / "elsewhere"
    lines = [f"{record(elsewhere / f'a{i}.wav')},text {i}" for i in range(4)]
    table = tmp_path / "table.csv"
    table.write_text("path,text\n" + "\n".join(lines[:3]))
    out = tmp_path / "out"
    command = ["prepare", "folder", str(corpus), str(out), "--transcripts", str(table)]
    for change in (
        lambda: table.write_text("path,text\n" + "\n".join(lines)),
        lambda: record(elsewhere / "a1.wav", 0.7),
    ):
        assert main(command) == 0
        first = (out / "prepare.json").stat().st_mtime_ns
        main(command)
        assert (out / "prepare.json").stat().st_mtime_ns == first
        change()
        main(command)
        assert (out / "prepare.json").stat().st_mtime_ns != first


def test_bad_items_give_exit_3_each_time_and_2_with_strict(corpus, tmp_path, capsys):
    (corpus / "u3.wav").write_bytes(b"")
    (corpus / "u4.txt").unlink()
    out = tmp_path / "out"
    command = ["prepare", "folder", str(corpus), str(out)]
    for _ in range(2):
        assert main(command) == 3
        lines = capsys.readouterr().err.splitlines()
        assert len([line for line in lines if line.startswith("skipped: ")]) == 2
        assert any("u3.wav: the file is empty" in line for line in lines)
        assert lines[-1] == "2 of 10 utterances skipped"
    assert [row["item"] for row in read_report(out)["skipped"]] == ["u4.wav", "u3"]
    assert main([*command, "--strict"]) == 2
    assert "speechmm prepare: error: u4.wav" in capsys.readouterr().err
    assert read_report(out)["skipped"]  # the result that was there is still there


def test_what_was_drawn_is_said_each_time_and_kept(corpus, tmp_path, caplog):
    for again in (False, True):
        caplog.clear()
        assert main(["prepare", "folder", str(corpus), str(tmp_path / "out")]) == 0
        printed = caplog.text
        assert ("up to date" in printed) is again
        (remark,) = read_report(tmp_path / "out")["remarks"]
        assert remark.startswith("dev and test: the corpus has none, drawn from train by ")
        assert remark in printed


def test_splits_that_are_not_wanted_any_more_are_removed(corpus, tmp_path):
    out = tmp_path / "out"
    main(["prepare", "folder", str(corpus), str(out)])
    assert main(["prepare", "folder", str(corpus), str(out), "--dev", "0"]) == 0
    assert not (out / "dev.jsonl.gz").exists()
    assert list(read_report(out)["splits"]) == ["train", "test"]


def test_nothing_usable(corpus, tmp_path, capsys):
    for path in corpus.glob("*.wav"):
        path.write_text("not audio")
    assert main(["prepare", "folder", str(corpus), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "no usable utterance; 10 were skipped, the first is u0: " in error
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch", "a", "b"], "found 'nosuch'; expected one of"),
        ([], "required"),
        (["folder", "{corpus}"], "required: out"),
        (["folder", "{corpus}", "{out}", "--dve", "0.1"], "did you mean --dev"),
        (["folder", "{corpus}", "{out}", "--dev", "0.6", "--test", "0.6"], "expected shares"),
        (["folder", "{corpus}", "{out}", "--seed", "x"], "found 'x'; expected int"),
        (["an4", "{corpus}", "{out}", "--seed", "1"], "unrecognized arguments: --seed"),
        (["folder", "{corpus}/none", "{out}"], "found nothing; expected the corpus's folder"),
        (["folder", "{corpus}", "{corpus}"], "is the corpus itself"),
        (["folder", "{corpus}", "{corpus}/u1.txt"], "is a file"),
        (["folder", "{corpus}", "/proc/nowhere"], "cannot be written"),
        (["folder", "{corpus}", "{out}", "--transcripts", "none.csv"], "none.csv: cannot be read"),
        (["an4", "{corpus}", "{out}"], "found no etc/an4_train.fileids"),
    ],
)
def test_mistakes_are_one_line(corpus, tmp_path, capsys, arguments, message):
    filled = [text.format(corpus=corpus, out=tmp_path / "out") for text in arguments]
    assert main(["prepare", *filled]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert error.startswith("speechmm prepare: error: ")


def test_help_lists_corpora_and_options(capsys):
    assert main(["prepare", "--help"]) == 0
    assert "librispeech" in capsys.readouterr().out
    assert main(["prepare", "kaldi", "--help"]) == 0
    assert "--language" in capsys.readouterr().out


def test_a_moved_corpus_is_prepared_again(corpus, tmp_path):
    out = tmp_path / "out"
    main(["prepare", "folder", str(corpus), str(out)])
    moved = tmp_path / "moved"
    shutil.move(corpus, moved)
    assert main(["prepare", "folder", str(moved), str(out)]) == 0
    assert all(
        "moved" in cut.recording.sources[0].source for cut in read_cuts(out / "train.jsonl.gz")
    )


def test_the_report_of_an_older_version_is_replaced(corpus, tmp_path):
    out = tmp_path / "out"
    command = ["prepare", "folder", str(corpus), str(out)]
    main(command)
    written = read_report(out)
    old = {**written, "format": "speechmm-prepare/1", "inputs": {"fingerprint": "x"}}
    for content in (json.dumps(old), '{"format": ', "[]"):
        (out / "prepare.json").write_text(content)
        assert main(command) == 0
        assert read_report(out) == written

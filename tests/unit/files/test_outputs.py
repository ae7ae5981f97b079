"""Outputs go where they were sent, and destroy nothing on the way."""

import os
import stat
import threading
from pathlib import Path

import pytest

from speechmm.cli.main import main
from speechmm.data.prepared import read_unchanged, write_corpus
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError, ManifestError
from speechmm.files.atomic import is_plain_name, write_aside, write_text
from speechmm.files.json_text import fits, parse_json, read_json, to_json
from speechmm.files.leftovers import remove_leftovers, unfinished_name
from speechmm.files.protection import forget_inputs, protect
from speechmm.files.text import read_text


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "store" / "real.txt", tmp_path / "link.txt"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to("store/real.txt")
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    write_text(link, "ours", ours=True)
    assert (link.is_symlink(), link.read_text(), real.read_text()) == (False, "ours", "new")


def test_permissions(tmp_path: Path) -> None:
    kept, new = tmp_path / "kept.txt", tmp_path / "new.txt"
    kept.touch(mode=0o600)
    before = os.umask(0o027)
    try:
        write_text(kept, "text")
        write_text(new, "text")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (kept, new)]
    assert modes == [0o600, 0o640]


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "text")
    reader.join(10)
    assert found == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    for name in ("-", "/dev/stdout"):
        write_text(Path(name), "text")
    assert capfdbinary.readouterr().out == b"texttext"


@pytest.mark.parametrize("name", ["", ".", "/", ".."])
def test_paths_without_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="no name"), write_aside(Path(name)):
        pass


def test_inputs_and_recordings_are_not_overwritten(tmp_path: Path) -> None:
    read, link, sound = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.wav"
    read.write_text("old")
    sound.write_text("old")
    link.symlink_to(read)
    protect([read])
    try:
        for path in (read, link, sound):
            with pytest.raises(ConfigError, match="would be overwritten"):
                write_text(path, "new")
    finally:
        forget_inputs()
    assert read.read_text() == sound.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ngram", "{0}/t.txt", "--out", "{0}/t.txt"], "is read by this command"),
        (["ngram", "{0}/t.txt", "--out", "{0}/link"], "is read by this command"),
        (["tokenizer", "{0}/t.txt", "--out", ""], "--out: is empty"),
        (["ngram", "{0}/t.txt", "--out="], "--out: is empty"),
        (["ngram", "{0}/t.txt", "--out", "/"], "cannot be written|no name"),
    ],
)
def test_commands_refuse(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.txt").write_text("one two\n")
    (tmp_path / "link").symlink_to("t.txt")
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    import re

    assert re.search(message, line)
    assert (tmp_path / "t.txt").read_text() == "one two\n"


@pytest.mark.parametrize(
    "name", ["../victim.jsonl.gz", "/tmp/x.jsonl.gz", "a/b.jsonl.gz", "..", ""]
)
def test_plain_names(name: str) -> None:
    assert not is_plain_name(name)
    assert is_plain_name("train.jsonl.gz")


def test_a_strangers_record_removes_nothing_outside(tmp_path: Path) -> None:
    source, out, victim = tmp_path / "in", tmp_path / "out", tmp_path / "victim.jsonl.gz"
    source.mkdir()
    out.mkdir()
    victim.touch()
    outputs = {"../victim.jsonl.gz": 0, str(victim): 0, "old.jsonl.gz": 0, "notes.txt": 0}
    (out / "old.jsonl.gz").touch()
    (out / "notes.txt").touch()
    (out / "prepare.json").write_text(to_json({"format": "speechmm-prepare/1", "outputs": outputs}))
    write_corpus({}, out, SkipReport(), settings={"corpus": "x"}, source=source)
    assert victim.exists()
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", "prepare.json"]
    (out / "prepare.json").write_text('{"format": "speechmm-prepare/2", "skipped": 7}')
    assert read_unchanged(out, settings={}, source=source, strict=False) is None


def test_leftovers_of_ended_processes_are_removed(tmp_path: Path) -> None:
    mine = tmp_path / unfinished_name()
    dead = tmp_path / mine.name.replace(f"-{os.getpid():x}-", f"-{2**22 + 7:x}-")
    other = tmp_path / f".tmp-00000000-{2**22 + 7:x}-0123456789ab"
    for path in (mine, dead, other):
        path.touch()
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[" * 150 + "]" * 150, "NaN", "-Infinity", "1e999", "9" * 30, "9" * 5000,
     '"\\ud800"', "{", ""],
)  # fmt: skip
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_names_of_files_that_are_not_utf8_pass_through_json() -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    assert parse_json(to_json({name: [1, 2.5, None]})) == {name: [1, 2.5, None]}


def test_shapes() -> None:
    shape = {"a": int, "b": [(float, None)], "c": {str: str}}
    assert fits({"a": 1, "b": [1, 2.0, None], "c": {"x": "y"}, "d": 0}, shape)
    for wrong in (7, {"a": True, "b": [], "c": {}}, {"a": 1, "b": ["x"], "c": {}}, {"a": 1}):
        assert not fits(wrong, shape)


def test_damaged_and_immense_gzip(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "a.json.gz"
    whole = gzip.compress(b'{"a": 1}' * 1000)
    for place in range(10, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(ManifestError):
            read_json(path, expected="x", advice="y.")
    path.write_bytes(gzip.compress(bytes(300_000_000), 9))
    with pytest.raises(ManifestError, match="unpacks to more than"):
        read_text(path)

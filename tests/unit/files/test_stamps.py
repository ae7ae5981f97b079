"""Up to date: what makes a result be made again, and what does not."""

import json
import os
import shutil
from pathlib import Path

import pytest

from speechmm.errors import ConfigError
from speechmm.files.stamps import (
    is_current,
    make_record,
    make_stamp,
    read_current,
    read_record,
    remove_record,
    write_record,
)

SETTINGS = {"n_mels": 80, "folder": Path("a b")}


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "in" / name for name in ("one.wav", "two.wav")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_text(f"content of {path.name}")
    return paths


@pytest.fixture
def made(tmp_path: Path, inputs: list[Path]) -> Path:
    """The record of a finished result of one file and one folder."""
    out = tmp_path / "out"
    (out / "arrays").mkdir(parents=True)
    (out / "train.jsonl").write_text("12345")
    stamp = make_stamp(SETTINGS, inputs)
    content = {"skipped": [], "utterances": 3}
    write_record(out / "made.json", stamp, content, [out / "train.jsonl", out / "arrays"])
    return out / "made.json"


def is_up_to_date(made: Path, inputs: list[Path], settings=SETTINGS) -> bool:
    return read_current(made, make_stamp(settings, inputs)) is not None


def test_an_unchanged_result_is_current(made: Path, inputs: list[Path]):
    assert is_up_to_date(made, inputs)
    assert is_up_to_date(made, inputs[::-1])
    assert read_current(made, make_stamp(SETTINGS, inputs))["utterances"] == 3


def rewrite(made: Path, inputs: list[Path]) -> None:
    inputs[0].write_text("CONTENT OF one.wav")  # as long as before


def replace(made: Path, inputs: list[Path]) -> None:
    other = inputs[0].with_name("other")
    other.write_text("another file")
    shutil.copystat(inputs[0], other)
    other.replace(inputs[0])


def swap(made: Path, inputs: list[Path]) -> None:
    os.utime(inputs[0], ns=(1, 1))
    inputs[0].rename(inputs[0].with_name("x"))
    inputs[1].rename(inputs[0])
    inputs[0].with_name("x").rename(inputs[1])


CHANGES = {
    "an input was written again": rewrite,
    "an input was replaced": replace,
    "two inputs were swapped": swap,
    "an input is gone": lambda made, inputs: inputs[0].unlink(),
    "an output is gone": lambda made, inputs: made.with_name("train.jsonl").unlink(),
    "an output has another size": lambda made, inputs: made.with_name("train.jsonl").write_text(""),
    "a folder is gone": lambda made, inputs: made.with_name("arrays").rmdir(),
    "the record was removed": lambda made, inputs: remove_record(made),
    "the record is damaged": lambda made, inputs: made.write_text('{"stamp": '),
    "the record is of something else": lambda made, inputs: made.write_text("[1]"),
}


@pytest.mark.parametrize("change", CHANGES, ids=list(CHANGES))
def test_a_change_is_noticed(made: Path, inputs: list[Path], change: str):
    CHANGES[change](made, inputs)
    assert not is_up_to_date(made, inputs)


@pytest.mark.parametrize(
    "settings", [{}, {**SETTINGS, "n_mels": 40}, {**SETTINGS, "more": None}, {"n_mels": 80}]
)
def test_a_changed_setting_is_noticed(made: Path, inputs: list[Path], settings):
    assert not is_up_to_date(made, inputs, settings)


def test_more_and_fewer_inputs_are_noticed(made: Path, inputs: list[Path], tmp_path: Path):
    assert not is_up_to_date(made, inputs[:1])
    assert not is_up_to_date(made, [*inputs, tmp_path / "third.wav"])


def test_an_interrupted_write_leaves_no_stamp(made: Path, inputs: list[Path], monkeypatch):
    """Outputs for other settings lie there half written: neither settings are up to date."""
    other = make_stamp({"n_mels": 40}, inputs)
    remove_record(made)
    made.with_name("train.jsonl").write_text("54321")  # of the size it had

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ConfigError, match="No space"):
        write_record(made, other, {}, [made.with_name("train.jsonl")])
    assert read_record(made) == {}
    assert read_current(made, other) is None
    assert not is_up_to_date(made, inputs)


def test_a_record_inside_its_result(tmp_path: Path):
    stamp = make_stamp("settings", [])
    record = make_record(stamp, {"texts": 3})
    assert is_current(record, stamp, tmp_path)
    assert not is_current(record, make_stamp("others", []), tmp_path)
    for other in ({}, None, [stamp], "text"):
        assert not is_current(other, stamp, tmp_path)


def test_names_that_are_not_utf8_come_back(tmp_path: Path):
    odd = tmp_path / os.fsdecode(b"caf\xe9.txt")
    odd.touch()
    stamp = make_stamp({"file": odd}, [odd])
    write_record(tmp_path / "made.json", stamp, {"file": str(odd)}, [odd])
    assert read_current(tmp_path / "made.json", stamp)["file"] == str(odd)
    assert json.loads((tmp_path / "made.json").read_text("utf-8"))["outputs"] == {odd.name: 0}


def test_a_record_may_name_what_no_file_can_be_called(tmp_path):
    for name in ("a" * 5000, "x/" * 3000 + "y"):
        assert not is_current({"stamp": "s", "outputs": {name: 1}}, "s", tmp_path)

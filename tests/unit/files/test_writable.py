"""Whether a result can be written is known before the work, and finding out changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmm.cli.main import main
from speechmm.errors import ConfigError
from speechmm.files.writable import check_file, check_folder, check_new_folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_can_be_written_stays_as_it_is(tmp_path: Path) -> None:
    for name in ("old.txt", "bundle/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    before = contents(tmp_path)
    for file in (None, tmp_path / "old.txt", tmp_path / "new.txt", tmp_path / "a" / "new.txt"):
        check_file(file)
    for folder in (None, tmp_path / "bundle", tmp_path / "new"):
        check_new_folder(folder, mark="config.json")
    check_folder(tmp_path)
    assert contents(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("b")
    before = contents(tmp_path)
    for refused in (
        lambda: check_file(tmp_path / "other"),
        lambda: check_file(tmp_path / "file" / "inside"),
        lambda: check_new_folder(tmp_path / "other", mark="config.json"),
        lambda: check_new_folder(tmp_path / "file" / "inside", mark="config.json"),
        lambda: check_folder(tmp_path / "file"),
        lambda: check_folder(tmp_path / "file" / "inside"),
    ):
        with pytest.raises(ConfigError):
            refused()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "command",
    [
        "align {audio} --learn --save {bad} --out {good}.jsonl --format jsonl",
        "align {audio} --learn --out {bad}/a.jsonl --format jsonl",
        "align {audio} --learn --out {bad}/grids",
        "pseudo-label {audio} --model {good} --out {bad}/kept.jsonl",
        "pseudo-label {audio} --model {good} --out {good}.jsonl --report {bad}/report.jsonl",
        "synthesize home --model {good} --out {good} --manifest {bad}/cuts.jsonl",
        "check-alignment {cuts} {cuts} --model {good} --out {bad}/a.json",
        "check-flags {cuts} --model {good} --out {bad}/a.json",
    ],
)
def test_commands_find_out_before_they_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no bundle either: that is found when it is loaded, later."""
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    (tmp_path / "a.txt").write_text("go home")
    (tmp_path / "cuts.jsonl").touch()
    (tmp_path / "bad").write_text("a file")
    names = {"audio": "a.wav", "cuts": "cuts.jsonl", "bad": "bad", "good": "good"}
    filled = command.format_map({name: tmp_path / path for name, path in names.items()})
    assert main(filled.split()) == 2
    assert str(tmp_path / "bad") in capsys.readouterr().err

"""Files that appear whole or not at all, and names for any id."""

import errno
import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from speechmm.errors import ConfigError
from speechmm.files.atomic import safe_name, write_aside, write_folder_aside, write_text


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a b.jsonl.gz"
    for text in ("one\n", "zwei ü\n"):
        write_text(path, text)
        assert path.read_bytes() == text.encode("utf-8")
        assert list(path.parent.iterdir()) == [path]


def test_the_aside_keeps_the_suffixes(tmp_path: Path) -> None:
    with write_aside(tmp_path / "train.jsonl.gz") as aside:
        assert aside.parent == tmp_path
        assert aside.name.startswith(".tmp-") and aside.name.endswith(".jsonl.gz")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError("other")])
def test_what_was_there_stays_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), write_aside(path) as aside:
        aside.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with (
        pytest.raises(ConfigError, match=r"a\.txt: cannot be written \(No space"),
        write_aside(path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bundle"
    for name in ("one", "two"):
        with write_folder_aside(path, mark="config.json") as aside:
            assert aside.parent == path.parent
            (aside / name).touch()
            (aside / "config.json").touch()
        assert sorted(file.name for file in path.iterdir()) == ["config.json", name]
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError("other")])
def test_the_old_folder_stays_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "config.json").touch()
    with pytest.raises(type(error)), write_folder_aside(path, mark="config.json") as aside:
        (aside / "half").touch()
        raise error
    assert list(tmp_path.rglob("*")) == [path, path / "config.json"]


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        write_folder_aside(tmp_path / "file" / "bundle", mark="config.json"),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"bundle: cannot be written \(No space"),
        write_folder_aside(tmp_path / "bundle", mark="config.json"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for name in ("file/a.txt", "folder", "x" * 300):
        with pytest.raises(ConfigError, match="cannot be written"):
            write_text(tmp_path / name, "text")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("utt-01", "utt-01"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("..", "%2E%2E"),
        (".hidden", "%2Ehidden"),
        ("-rf", "%2Drf"),
        ("it's 日本 ü", "it's 日本 ü"),
        ("a\nb\0", "a%0Ab%00"),
        ('"x":*?<>|\\', "%22x%22%3A%2A%3F%3C%3E%7C%5C"),
    ],
)
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert unquote(safe) == name


def test_long_names_stay_apart() -> None:
    names = {safe_name("ü" * 200 + str(number)) for number in range(100)}
    assert len(names) == 100
    assert all(len(os.fsencode(name)) <= 180 for name in names)

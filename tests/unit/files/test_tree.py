"""The one walk: every file once, links followed, loops ended."""

import os
from pathlib import Path

import pytest

from speechmm.alignments import Alignment, Segment, read_alignments
from speechmm.alignments.files import write_alignments
from speechmm.audio.files import find_audio
from speechmm.errors import AudioError, ManifestError
from speechmm.files.tree import list_files


def names(root: Path, **options) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_files(root, **options)]


def make(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_hidden_files_and_unwanted_folders_are_left_out(tmp_path: Path):
    make(tmp_path, "b.wav", "a/c.wav", ".git/x", "a/._c.wav", "__MACOSX/b.wav", "out/train.jsonl")
    assert names(tmp_path) == ["a/c.wav", "b.wav", "out/train.jsonl"]
    assert names(tmp_path, leave_out=tmp_path / "out") == ["a/c.wav", "b.wav"]


def test_links_are_followed_and_loops_end(tmp_path: Path):
    root = tmp_path / "corpus"
    make(tmp_path, "corpus/01.wav", "real/00.wav", "real/deep/02.wav")
    (root / "day2").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "deep" / "loop").symlink_to(root)
    (root / "self").symlink_to(".")
    (root / "gone").symlink_to(tmp_path / "nothing")
    assert names(root) == ["01.wav", "day2/00.wav", "day2/deep/02.wav", "gone"]
    assert [path.name for path in find_audio(root)] == ["01.wav", "00.wav", "02.wav"]


def test_a_folder_is_listed_by_its_own_path(tmp_path: Path):
    make(tmp_path, "run7/a.wav")
    (tmp_path / "latest").symlink_to("run7")
    (tmp_path / "newest").symlink_to("latest")
    assert names(tmp_path) == ["run7/a.wav"]


def test_a_root_that_is_a_link(tmp_path: Path):
    make(tmp_path, "real/a.wav")
    (tmp_path / "link").symlink_to("real")
    assert names(tmp_path / "link") == ["a.wav"]


def test_no_such_folder(tmp_path: Path):
    with pytest.raises(ManifestError, match="there is no such folder"):
        list_files(tmp_path / "none")
    with pytest.raises(AudioError, match="there is no such folder"):
        find_audio(tmp_path / "none")


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bob").mkdir()
    (tmp_path / "lost+found").mkdir()
    scandir = os.scandir

    def refused(path: str) -> object:
        if Path(path).name in ("bob", "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(AudioError, match=r"bob: cannot be listed \(Permission denied\)"):
        find_audio(tmp_path)
    (tmp_path / "bob").rmdir()
    assert list_files(tmp_path) == []


def test_textgrids_in_linked_folders_are_read(tmp_path: Path):
    words = [Segment(label="hello", start=0.0, end=0.5)]
    alignment = Alignment(id="a b", duration=1.0, units={"word": words})
    write_alignments([alignment], tmp_path / "real", "textgrid")
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "day").symlink_to(tmp_path / "real")
    assert [row.id for row in read_alignments(tmp_path / "grids")] == ["a b"]

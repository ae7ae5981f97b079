"""Which files of a folder are audio, and which are media that need more than is installed."""

from pathlib import Path

import pytest

from speechmm.audio.files import find_audio, unreadable_among
from speechmm.files.tree import list_files

NAMES = ("a.wav", "b.WAVE", "c.mpga", "d.M4A", "deep/e.mp4", "notes.txt", "f.flac", "f.m4a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_media_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmm.audio.files.media_installed", lambda: False)
    assert [path.name for path in find_audio(folder)] == ["a.wav", "b.WAVE", "c.mpga", "f.flac"]
    named = unreadable_among(list_files(folder))
    assert [path.name for path in named] == ["d.M4A", "e.mp4"]
    said = str(named[folder / "deep/e.mp4"])
    assert ".mp4 is not read without pip install 'speechmm[media]'" in said
    assert 'convert it: "ffmpeg -i e.mp4 -vn e.flac"' in said


def test_media_with_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechmm.audio.files.media_installed", lambda: True)
    names = ["a.wav", "b.WAVE", "c.mpga", "d.M4A", "e.mp4", "f.flac"]  # f.m4a has been converted
    assert [path.name for path in find_audio(folder)] == names
    assert not unreadable_among(list_files(folder))

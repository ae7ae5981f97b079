"""Which files of a folder are audio, and which are audio that must be converted first."""

from pathlib import Path

from speechmm.audio.files import find_audio, unreadable_among
from speechmm.files.tree import list_files


def test_audio_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in (
        "a.wav",
        "b.WAVE",
        "c.mpga",
        "d.M4A",
        "deep/e.mp4",
        "notes.txt",
        "f.flac",
        "f.m4a",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_audio(tmp_path)] == ["a.wav", "b.WAVE", "c.mpga", "f.flac"]
    named = unreadable_among(list_files(tmp_path))
    assert [path.name for path in named] == ["d.M4A", "e.mp4"]
    assert 'Convert it: "ffmpeg -i e.mp4 -vn e.flac"' in str(named[tmp_path / "deep/e.mp4"])

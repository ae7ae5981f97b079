"""Ids of recordings: their names where these differ, their paths where they do not."""

from pathlib import Path

import pytest

from speechmm.data.ids import make_ids


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ("", ""),
        ("a.wav|b c.WAV", "a|b c"),
        ("s/a.wav|t/b.wav", "a|b"),
        ("a/x.wav|b/x.wav|b/y.wav", "a/x|b/x|y"),
        ("deep/a/x.wav|deep/b/x.wav", "a/x|b/x"),
        ("x.wav|a/x.wav", "x|a/x"),
        ("a.wav|a.flac|b.wav", "a|a|b"),
        ("v1.2.wav|v1.3.wav", "v1.2|v1.3"),
        ("/one/x.wav|/two/x.wav", "one/x|two/x"),
    ],
)
def test_ids(files: str, ids: str):
    paths = [Path(name) for name in files.split("|") if name]
    assert list(make_ids(paths).values()) == [id for id in ids.split("|") if id]


def test_the_order_and_a_relative_path_change_nothing(monkeypatch, tmp_path: Path):
    paths = [tmp_path / name for name in ("a/x.wav", "b/x.wav", "b/y.wav")]
    ids = make_ids(paths)
    assert make_ids(reversed(paths)) == ids
    monkeypatch.chdir(tmp_path)
    relative = make_ids(path.relative_to(tmp_path) for path in paths)
    assert list(relative.values()) == list(ids.values())

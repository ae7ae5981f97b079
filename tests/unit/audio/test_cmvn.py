"""Statistics of features, against all frames at once."""

import json
from pathlib import Path

import pytest
import torch

from speechmm.audio.cmvn import CmvnAccumulator, CmvnStats
from speechmm.errors import ConfigError


def test_equals_the_statistics_of_all_frames_at_once() -> None:
    generator = torch.Generator().manual_seed(1)
    parts = [3.0 * torch.randn(n, 80, generator=generator) - 9.0 for n in (1, 300, 17, 0, 40)]
    accumulator = CmvnAccumulator()
    for part in parts:
        accumulator.add(part)
    stats = accumulator.stats()
    everything = torch.cat(parts).double()
    assert stats.frames == len(everything) == 358
    torch.testing.assert_close(stats.mean, everything.mean(dim=0).float())
    torch.testing.assert_close(stats.std, everything.std(dim=0, correction=0).float())


def test_a_band_that_never_changes_can_still_be_divided_by() -> None:
    accumulator = CmvnAccumulator()
    accumulator.add(torch.full((100, 4), -23.0258509))
    assert bool((accumulator.stats().std >= 1e-3 - 1e-9).all())


def test_read_of_write_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cmvn.json"
    stats = CmvnStats(torch.randn(80), torch.rand(80) + 0.1, 12)
    stats.save(path)
    found = CmvnStats.load(path)
    assert torch.equal(found.mean, stats.mean) and torch.equal(found.std, stats.std)
    assert found.frames == 12
    assert list(path.parent.iterdir()) == [path]


def test_no_frames() -> None:
    with pytest.raises(ConfigError, match="no frames; expected at least one utterance"):
        CmvnAccumulator().stats()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        json.dumps({"mean": [0.0], "std": [1.0]}),
        json.dumps({"mean": [0.0, 1.0], "std": [1.0], "frames": 1}),
        json.dumps({"mean": [0.0], "std": [0.0], "frames": 1}),
        json.dumps({"mean": [float("nan")], "std": [1.0], "frames": 1}),
        json.dumps({"mean": ["x"], "std": [1.0], "frames": 1}),
    ],
)
def test_damaged_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cmvn.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"cmvn\.json: no feature statistics"):
        CmvnStats.load(path)
    with pytest.raises(ConfigError, match="no feature statistics"):
        CmvnStats.load(tmp_path / "none.json")

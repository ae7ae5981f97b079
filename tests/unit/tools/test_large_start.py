"""tools/large_start.py: how long a training on a large corpus takes to begin."""

import re
from pathlib import Path

import pytest


def test_a_small_one_begins(load_tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_tool("large_start").main([str(tmp_path), "--cuts", "320"])
    found = re.match(r"320 cuts: (\d+\.\d) s to the first step", capsys.readouterr().out)
    assert found
    assert float(found[1]) > 0

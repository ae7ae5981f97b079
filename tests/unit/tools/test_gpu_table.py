"""tools/gpu_table.py: the table of a GPU, in miniature without one."""

import json

import pytest
import torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="in miniature without a GPU only")
def test_the_parts_asked_for_are_measured(load_tool, tmp_path):
    load_tool("gpu_table").main([str(tmp_path), "--parts", "step,busy"])
    rows = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert all(isinstance(row, dict) for row in rows.values()), rows
    assert rows["step, tiny, joint, compile off"]["audio_seconds_per_second"] > 0
    assert rows["device busy, tiny"]["share"] == 0
    assert "| step, tiny, recognition alone" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_a_part_that_fails_says_so_and_the_next_one_runs(load_tool, tmp_path):
    tool = load_tool("gpu_table")
    table = tool.Table(tmp_path)
    table.add("bad", lambda: 1 / 0)
    table.add("good", lambda: {"x": 1.25})
    assert table.rows["bad"].startswith("ZeroDivisionError")
    assert table.text().splitlines()[2:] == ["| bad | failed |", "| good | x 1.25 |"]


def test_the_time_of_a_busy_device_counts_once(load_tool):
    covered = load_tool("gpu_table")._covered
    assert covered([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (5.2, 5.4)]) == 4.0

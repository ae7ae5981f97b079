"""tools/benchmark.py: speed and memory on made-up audio."""

import json

import pytest
import torch


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_cases_asked_for_are_measured(load_tool, tmp_path):
    tool, out = load_tool("benchmark"), tmp_path / "bench.json"
    cases = "features,train,greedy,beam4,align"
    size = ["--utterances", "2", "--seconds", "1", "--precision", "bf16"]
    run = ["--threads", "1", "--repetitions", "1", "--out", str(out)]
    tool.main(["--cases", cases, *size, *run])
    report = json.loads(out.read_text(encoding="utf-8"))
    assert sorted(report["cases"]) == sorted(cases.split(","))
    assert all(case["audio_seconds_per_second"] > 0 for case in report["cases"].values())
    assert report["threads"] == 1


def test_a_case_that_is_none_is_refused(load_tool, capsys):
    with pytest.raises(SystemExit):
        load_tool("benchmark").main(["--cases", "nothing", "--threads", "1"])
    assert "expected some of features, train" in capsys.readouterr().err

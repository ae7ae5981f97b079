"""tools/long_audio.py: a long recording made of known utterances."""

import json

import numpy as np
import soundfile


def test_a_recording_is_made_transcribed_and_aligned(load_tool, spoken, bundle, tmp_path):
    arguments = [str(spoken / "test.jsonl.gz"), str(bundle), "--hours", "0.003"]
    load_tool("long_audio").main([*arguments, "--threads", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert soundfile.info(tmp_path / "long.wav").duration >= 0.003 * 3600
    assert found["transcribe long"]["words"] == found["transcribe one by one"]["words"] > 0
    assert found["align long"]["edges"] == 2 * found["transcribe long"]["words"]
    assert len(found["align long"]["mean_ms_by_tenth"]) == 10


def test_a_pause_is_as_loud_as_the_quietest_part_of_the_utterance(load_tool):
    tool = load_tool("long_audio")
    loud = np.random.default_rng(0).standard_normal(tool.RATE)
    quiet = 0.01 * np.random.default_rng(1).standard_normal(tool.RATE)
    pause = tool.pause_after(np.concatenate([loud, quiet]), tool.RATE, seed=2)
    assert len(pause) == tool.RATE
    assert np.isclose(pause.std(), 0.01, rtol=0.1)

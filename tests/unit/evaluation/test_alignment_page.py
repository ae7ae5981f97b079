"""The page of ``score-alignment``."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechmm.cli.main import main
from speechmm.evaluation.alignment_page import cumulative, histogram

NASTY = "<script>alert(1)</script>"


def write(path: Path, audio: Path, shift: float, offset: float = 0.0) -> None:
    words = [
        {"label": label, "start": start + shift, "end": start + 0.4 + shift, "confidence": None}
        for label, start in (("one", 0.5), (NASTY, 1.2))
    ]
    row = {"id": "u 1", "audio": str(audio), "start": offset, "duration": 3.0}
    row["units"] = {"word": words}
    path.write_text(json.dumps({**row, "confidence": None, "flags": []}) + "\n", encoding="utf-8")


@pytest.mark.parametrize("offset", [0.0, 4.0])
def test_the_largest_errors_can_be_heard_and_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], offset: float
) -> None:
    audio = tmp_path / 'it\'s "one".wav'
    samples = 0.1 * np.sin(np.arange(round((offset + 3) * 16000)) / 8)
    samples[: round(offset * 16000)] = 0.0
    soundfile.write(audio, samples, 16000)
    write(tmp_path / "ref.jsonl", audio, 0.0, offset)
    write(tmp_path / "hyp.jsonl", audio, 0.03, offset)
    files = [str(tmp_path / "hyp.jsonl"), str(tmp_path / "ref.jsonl")]
    assert main(["score-alignment", *files, "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/alignment.html").read_text(encoding="utf-8")
    assert "<h1>30.0 ms</h1>" in text
    assert NASTY not in text and "&lt;script&gt;" in text
    assert text.count('src="data:audio/') == 2
    marks = re.findall(r'class="(reference|found)" style="left:([\d.]+)%', text)
    assert [name for name, _ in marks] == ["reference", "found"] * 2
    # 0.5 s before the word in a clip of 0.5 + 0.43 + 0.5 s, and 30 ms later
    assert float(marks[0][1]) == pytest.approx(100 * 0.5 / 1.43, abs=0.1)
    assert float(marks[1][1]) == pytest.approx(100 * 0.53 / 1.43, abs=0.1)
    assert "alignment.html" in capsys.readouterr().err
    clip = re.search(r'src="data:audio/\w+;base64,([^"]+)"', text)
    assert clip is not None
    heard, _ = soundfile.read(io.BytesIO(base64.b64decode(clip[1])))
    assert np.abs(heard).mean() > 0.03  # and not the silence before the utterance


def test_the_channel_of_the_utterance_is_heard(tmp_path: Path) -> None:
    audio = tmp_path / "call.wav"
    tone = 0.1 * np.sin(np.arange(3 * 16000) / 8)
    soundfile.write(audio, np.stack([tone, np.zeros_like(tone)], axis=1), 16000)
    for name, shift in (("ref", 0.0), ("hyp", 0.03)):
        path = tmp_path / f"{name}.jsonl"
        write(path, audio, shift)
        row = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**row, "channels": [1]}) + "\n", encoding="utf-8")
    files = [str(tmp_path / "hyp.jsonl"), str(tmp_path / "ref.jsonl")]
    assert main(["score-alignment", *files, "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/alignment.html").read_text(encoding="utf-8")
    clip = re.search(r'src="data:audio/\w+;base64,([^"]+)"', text)
    assert clip is not None
    heard, _ = soundfile.read(io.BytesIO(base64.b64decode(clip[1])))
    assert np.abs(heard).max() < 1e-3  # the other speaker is silent


def test_bars_and_curve_count_everything() -> None:
    errors = np.array([-500.0, -1.0, 0.0, 9.9, 199.0, 200.0, 1000.0])
    bars = histogram(errors)
    assert sum(bar["count"] for bar in bars) == len(errors)
    by_left = {bar["left"]: bar["count"] for bar in bars}
    assert (by_left[-200.0], by_left[-10.0], by_left[0.0], by_left[190.0]) == (1, 1, 2, 3)
    curve = dict(cumulative(np.abs(errors)))
    assert curve[0.0] == pytest.approx(1 / 7)
    assert curve[10.0] == pytest.approx(3 / 7)
    assert curve[200.0] == pytest.approx(5 / 7)
    assert cumulative(np.array([])) == []

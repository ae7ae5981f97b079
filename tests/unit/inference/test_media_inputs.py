"""Every command takes media files: recordings of phones, films, films in a folder with texts."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from speechmm.cli.main import main
from speechmm.models.bundle import Bundle

av = pytest.importorskip("av")
RATE = 16000
FILES = {"one.m4a": "ab cd", "two.mkv": "gh ab", "three.webm": "fa ce", "four.mov": "dad"}


def write(path: Path, samples: np.ndarray) -> None:
    coder, rate = ("libopus", 48000) if path.suffix == ".webm" else ("aac", RATE)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(coder, rate=rate, layout="mono")
        convert = av.AudioResampler(stream.codec_context.format.name, "mono", rate)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for part in (*convert.resample(frame), *convert.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


@pytest.fixture
def corpus(
    tone_bundle: Bundle, speak: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.chdir(tmp_path)
    root = Path("corpus")
    root.mkdir()
    for name, text in FILES.items():
        write(root / name, speak(text).waveform.numpy())
        (root / name).with_suffix(".txt").write_text(text)
    return root


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def rows(path: str) -> dict[str, dict]:
    return {row["id"]: row for row in map(json.loads, Path(path).read_text().splitlines())}


def test_commands(corpus: Path, speak: Callable, capsys: pytest.CaptureFixture) -> None:
    assert call("prepare", "folder", corpus, "out", "--dev", 0, "--test", 0) == 0
    for number, source in enumerate((corpus, "out/train.jsonl.gz")):
        flags = ("--model", "tones", "--format", "jsonl", "--out")
        assert call("transcribe", source, *flags, f"{number}.jsonl", "--decoder", "ctc") == 0
        assert call("align", source, *flags, f"{number}.words.jsonl") == 0
        found = rows(f"{number}.words.jsonl")
        for name, text in FILES.items():
            own = Path(name).stem
            assert rows(f"{number}.jsonl")[own]["text"] == text
            for word, made in zip(found[own]["units"]["word"], speak(text).words, strict=True):
                assert abs(word["start"] - made.start) < 0.03
                assert abs(word["end"] - made.end) < 0.03
    capsys.readouterr()
    assert call("info", corpus / "one.m4a") == 0
    assert "AAC" in capsys.readouterr().out


def test_without_the_extra(
    corpus: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("files", "io"):
        monkeypatch.setattr(f"speechmm.audio.{module}.media_installed", lambda: False)
    for command in (
        ("transcribe", corpus, "--model", "tones"),
        ("transcribe", corpus / "one.m4a", "--model", "tones"),
        ("align", corpus / "two.mkv", "--model", "tones", "--out", "o"),
        ("prepare", "folder", corpus, "out"),
        ("info", corpus / "four.mov"),
    ):
        assert call(*command) == 2
        assert "pip install 'speechmm[media]'" in capsys.readouterr().err


def test_a_damaged_file_among_others(corpus: Path, capsys: pytest.CaptureFixture) -> None:
    path = corpus / "one.m4a"
    path.write_bytes(path.read_bytes()[:-2000])
    flags = ("--model", "tones", "--decoder", "ctc", "--format", "jsonl", "--out", "o")
    assert call("transcribe", corpus, *flags) == 3
    assert set(rows("o")) == {"two", "three", "four"}
    assert "one.m4a: the audio is damaged or cut short" in capsys.readouterr().err

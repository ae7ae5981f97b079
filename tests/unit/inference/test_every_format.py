"""Every format of ``transcribe`` and ``align`` goes into ``score`` and ``score-alignment``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speechmm.cli.main import main
from speechmm.models.bundle import Bundle

OPTIONS = ["--model", "tones"]
SPOKEN = {
    "plain": "ab cd",
    "my recording": "ef gh ab",
    "memo (1)": "cd",
    "it's [take] 100%": "ab ef",
    "ünï 日本": "gh cd",
}
SILENT = "nothing at all"
TRANSCRIBED = ("text", "jsonl", "srt", "vtt", "ctm", "trn", "textgrid")
ALIGNED = ("textgrid", "ctm", "srt", "vtt", "ass", "jsonl", "cuts", "durations")
WITH_WORD_TIMES = ("jsonl", "ctm", "textgrid", "cuts")


@pytest.fixture(autouse=True)
def sounds(
    speak: Callable[..., Any],
    tone_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A folder of recordings with their texts, one of them silent; commands load the tone model."""
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.chdir(tmp_path)
    for name, text in SPOKEN.items():
        speak(text).save(Path("sounds") / f"{name}.wav", "PCM_16")
        (Path("sounds") / f"{name}.txt").write_text(text, "utf-8")
    speak("", lead=1.0).save(Path("sounds") / f"{SILENT}.wav", "PCM_16")
    words = {
        name: [(word.label, word.start, word.end) for word in speak(text).words]
        for name, text in SPOKEN.items()
    }
    write_references(words, Path("references.jsonl"))
    write_references({**words, SILENT: []}, Path("all.jsonl"))


def write_references(words: dict[str, list[tuple[str, float, float]]], path: Path) -> None:
    """Transcript rows with the true times of the words, in the order of the file names."""
    rows = [
        {
            "id": id,
            "duration": 9.0,
            "text": " ".join(label for label, *_ in spoken),
            "words": [dict(zip(("word", "start", "end"), one, strict=True)) for one in spoken],
        }
        for id, spoken in sorted(words.items())
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def transcribed(format: str) -> Path:
    out = Path(f"transcripts.{format}") if format in ("text", "jsonl") else Path(f"out-{format}")
    command = ["transcribe", "sounds", *OPTIONS, "--decoder", "ctc", "--format", format]
    assert call(*command, "--out", out) == 0
    if format == "text":
        return out.rename("transcripts.txt")  # a file that ends in .text is Kaldi's
    return out


def aligned(format: str) -> Path:
    Path(f"sounds/{SILENT}.wav").unlink()
    out = Path("out.jsonl" if format == "cuts" else f"out-{format}")
    assert (
        call("align", "sounds", *OPTIONS, "--format", format, "--unit", "word", "--out", out) == 0
    )
    return out


def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("report/report.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("format", TRANSCRIBED)
def test_transcripts_can_be_scored(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = call("score", transcribed(format), "all.jsonl", "--out", "report")
    found = report()
    assert found["utterances"] == len(SPOKEN) + 1
    assert (found["wer"]["value"], found["wer"]["hits"]) == (0.0, 10)
    assert found["extra_hypotheses"] == []
    assert found["matched_by"] == ("order" if format == "text" else "id")
    # A ctm has a line for each word, so none for an utterance in which nothing was recognised.
    assert found["missing_hypotheses"] == ([SILENT] if format == "ctm" else [])
    assert code == (3 if format == "ctm" else 0), capsys.readouterr().err


@pytest.mark.parametrize("format", TRANSCRIBED[1:])
def test_transcripts_can_be_scored_against_what_prepare_makes(format: str) -> None:
    assert call("prepare", "folder", "sounds", "data", "--dev", "0", "--test", "0") in (0, 3)
    assert call("score", transcribed(format), "data/train.jsonl.gz", "--out", "report") in (0, 3)
    found = report()
    assert found["utterances"] == len(SPOKEN)
    assert (found["wer"]["value"], found["missing_hypotheses"]) == (0.0, [])


@pytest.mark.parametrize("format", TRANSCRIBED)
def test_times_of_transcripts_can_be_scored(
    format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call("score-alignment", transcribed(format), "references.jsonl", "--out", "report")
    check_boundaries(format, code, capsys.readouterr().err)


@pytest.mark.parametrize("format", ALIGNED)
def test_alignments_can_be_scored(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = aligned(format)
    code = call("score-alignment", out, "references.jsonl", "--out", "report")
    check_boundaries(format, code, capsys.readouterr().err)
    code = call("score", out, "references.jsonl", "--out", "report")
    if format == "durations":
        assert code == 2
        assert "neither TextGrids nor subtitles" in capsys.readouterr().err
    else:
        assert code == 0
        assert (report()["wer"]["value"], report()["wer"]["hits"]) == (0.0, 10)


def check_boundaries(format: str, code: int, errors: str) -> None:
    """Every edge is found within 20 ms, or the format is refused in one line that says why."""
    if format not in WITH_WORD_TIMES:
        assert code == 2
        assert "error: " in errors and "expected" in errors
        reason = {"srt": "subtitles", "vtt": "subtitles", "ass": "subtitles", "durations": "frames"}
        assert reason.get(format, "ctm") in errors
        return
    assert code in (0, 3), errors  # 3: the silent recording has no reference
    row = json.loads(Path("report/alignment.json").read_text())["word"]
    assert (row["boundaries"], row["missing"], row["extra"]) == (20, 0, 0)
    assert row["missing_utterances"] == []
    assert row["within_ms"]["20"] == 1.0

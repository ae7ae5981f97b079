"""What transcribe and calibrate left out or found doubtful is named, and how they end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from speechmm.alignments import Transcript
from speechmm.cli.main import main
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.inference.engine.sources import Source
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import Bundle

CTC = ["--decoder", "ctc"]


@pytest.fixture(autouse=True)
def hear_tones(tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The commands load the bundle of tones, and run in an empty folder."""
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.chdir(tmp_path)


def call(command: str, *arguments: object) -> int:
    model = ["bundle"] if command == "calibrate" else ["--model", "tones"]
    return main([command, *model, *map(str, arguments)])


def test_words_said_again_and_again_are_named(
    speak: Callable, capsys: pytest.CaptureFixture
) -> None:
    audio = [speak(text).save(Path(f"{text[:2]}.wav")) for text in ("cd", "ab " * 6)]
    assert call("transcribe", *audio, *CTC) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == ["cd", " ".join(["ab"] * 6)]
    assert said.err.splitlines() == [
        "flagged: ab: repeated: ab (6 times)",
        "1 of 2 inputs flagged",
    ]


def test_bad_lines_of_a_word_list_are_lines(speak: Callable, capsys: pytest.CaptureFixture) -> None:
    """One recording or two: the list is as good, and is not counted among them."""
    audio = [speak(text).save(Path(f"{text}.wav")) for text in ("ab", "cd")]
    Path("words.txt").write_bytes(b"ab\ncd\n\xe9t\xe9\n")
    for inputs in (audio[:1], audio):
        flags = ["--words", "words.txt", "--decoder", "joint", "--ctc-weight", "1", "--beam", "3"]
        assert call("transcribe", *inputs, *flags) == 3
        *_, counted = capsys.readouterr().err.splitlines()
        assert counted == "1 lines of --words skipped"
    assert call("transcribe", audio[0], *flags, "--strict") == 2
    assert "words.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beam", "2", "--n-best", "2"], "--n-best: --format text has one result per utterance"),
        (["--beam", "2", "--hotwords", "nmaes.txt"], "hotwords: nmaes.txt is no file"),
        (["--beam", "2", "--hotwords", "./nmaes"], "hotwords: nmaes is no file"),
        (["--beam", "2", "--hotwords", "."], "hotwords: . is no file"),
        (["--beam", "2", "--hotwords", " , "], "hotwords: found none in ' , '"),
    ],
)
def test_flags_without_effect_are_refused(
    flags: list[str], message: str, speak: Callable, capsys: pytest.CaptureFixture
) -> None:
    audio = speak("ab").save(Path("a.wav"))
    assert call("transcribe", audio, *flags) == 2
    assert message in capsys.readouterr().err


def test_calibration_names_what_it_left_out(
    speak: Callable, capsys: pytest.CaptureFixture, tone_bundle: Bundle, monkeypatch
) -> None:
    monkeypatch.setattr("speechmm.models.bundle.set_confidence", lambda *_: None)
    monkeypatch.setattr("speechmm.models.bundle.read_bundle_config", lambda _: tone_bundle)
    said = "ab cd ef gh " * 8
    audio = speak(said).save(Path("a.wav"))
    good = make_cut(id="a", audio=audio, text=said)
    row = json.loads(json.dumps(good.to_dict()))
    row["recording"]["sources"][0]["source"] = "none.wav"
    write_cuts([good], Path("dev.jsonl"))
    with Path("dev.jsonl").open("a") as file:
        file.write(json.dumps(row | {"id": "b"}) + "\n")
    assert call("calibrate", "dev.jsonl", *CTC) == 3
    assert "1 of 2 inputs skipped" in capsys.readouterr().err
    write_cuts([make_cut(id="a", audio=audio, text="hg " * 32)], Path("other.jsonl"))
    assert call("calibrate", "other.jsonl", *CTC) == 2
    assert "none of 32 recognised words is right" in capsys.readouterr().err


def test_what_only_ctc_can_tell_is_refused_without_it(
    speak: Callable, capsys: pytest.CaptureFixture, tone_bundle: Bundle, monkeypatch, with_heads
) -> None:
    """And words that were cut out are recognised by the decoder then."""
    bundle = with_heads(tone_bundle, ["decoder", "align"])
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: bundle)
    audio = speak("ab cd").save(Path("a.wav"))
    write_cuts([make_cut(id="a", audio=audio, text="ab cd")], Path("dev.jsonl"))
    align = ("align", "dev.jsonl", "--format", "jsonl", "--out", "a.jsonl")
    assert call(*align, "--edit-penalty", "18") == 2
    assert "expected ctc too, which --edit-penalty reads" in capsys.readouterr().err
    assert call("check-flags", "dev.jsonl") == 2
    assert "expected ctc too, which check-flags reads" in capsys.readouterr().err
    assert call(*align) == 0
    searched: list[str | None] = []

    def heard(transcriber: Transcriber, sources: list[Source]) -> Iterator[Transcript]:
        searched.append(transcriber.options.decoder)
        return (Transcript(id=one.id, duration=1.0, text="ab", confidence=1.0) for one in sources)

    monkeypatch.setattr(Transcriber, "transcribe_sources", heard)
    assert call("check-alignment", "a.jsonl", "dev.jsonl") == 0
    assert set(searched) == {"attention"}
    assert "2 words, cut out at their times and recognised alone (greedy decoder)" in (
        capsys.readouterr().out
    )


def test_labels_with_times_are_no_words_to_align(
    speak: Callable, capsys: pytest.CaptureFixture
) -> None:
    audio = speak("ab cd").save(Path("a.wav"))
    Path("a.lab").write_text("0 3000000 sil\n3000000 7000000 ab\n7000000 9000000 cd\n")
    assert call("align", audio, "--format", "jsonl", "--out", "a.jsonl") == 2
    assert "a.lab: found times, not a transcript" in capsys.readouterr().err

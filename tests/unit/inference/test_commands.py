"""``speechmm transcribe`` and ``speechmm align`` as users and scripts call them."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import soundfile
import torch

from speechmm.alignments import Alignment, read_alignments
from speechmm.cli import align as align_command
from speechmm.cli import transcribe as transcribe_command
from speechmm.cli.decoding import search_options
from speechmm.cli.main import main
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.inference.recognition import transcriber
from speechmm.inference.recognition.options import FusionOptions, SearchOptions
from speechmm.models.bundle import Bundle, load_bundle

MODEL = ["--model", "tones"]
CTC = ["--decoder", "ctc"]
ODD_NAME = 'it\'s "one" ünï %.wav'


@pytest.fixture(autouse=True)
def hear_tones(tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The commands load the bundle of tones, and run in an empty folder."""
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def two(speak: Callable) -> list[str]:
    """Two files that say "ab cd" and "ef"."""
    return [
        str(speak("ab cd").save(Path("sounds") / ODD_NAME)),
        str(speak("ef").save(Path("sounds/two.flac"), "PCM_16")),
    ]


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_transcribes_to_stdout_in_order(two: list[str], capsys: pytest.CaptureFixture) -> None:
    assert call("transcribe", *two, *MODEL, *CTC) == 0
    assert capsys.readouterr().out == "ab cd\nef\n"
    assert call("transcribe", *two[::-1], *MODEL, *CTC, "--format", "trn") == 0
    assert capsys.readouterr().out == 'ef (two)\nab cd (it\'s%20"one"%20ünï%20%)\n'
    assert call("transcribe", "sounds", *MODEL, *CTC, "--format", "jsonl") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["ab cd", "ef"]
    assert rows[1]["audio"] == two[1]


def test_jsonl_says_how_it_was_made(two: list[str], tone_bundle: Bundle) -> None:
    assert call("transcribe", *two, *MODEL, *CTC, "--format", "jsonl", "--out", "new/h.jsonl") == 0
    rows = [json.loads(line) for line in Path("new/h.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [Path(ODD_NAME).stem, "two"]
    meta = json.loads(Path("new/h.jsonl.meta.json").read_text("utf-8"))
    assert meta["model"] == "tones"
    assert meta["checkpoint_sha256"] == tone_bundle.sha256
    assert meta["decoding"] == {"decoder": "ctc", "beam": 1, "n_best": 1, "speech_gate": True}
    cost = meta["efficiency"]
    assert cost["parameters"] == tone_bundle.model.num_parameters()
    assert cost["peak_memory_bytes"] > 50e6
    parts = cost["seconds_by_part"]
    assert set(parts) == {"loading the model", *transcriber.PARTS}
    assert 0 < sum(parts.values()) - parts["loading the model"] <= meta["seconds"] + 0.01
    assert meta["command"].startswith("speechmm transcribe 'sounds/it'")
    assert meta["seed"] == 7
    assert meta["audio_seconds"] == pytest.approx(sum(row["duration"] for row in rows), abs=1e-3)
    assert meta["rtf"] == pytest.approx(meta["seconds"] / meta["audio_seconds"], rel=0.1)
    assert "git_commit" in meta


@pytest.mark.parametrize("format", ["text", "jsonl", "srt", "vtt", "ctm", "trn", "textgrid"])
def test_transcribe_writes_every_format(two: list[str], format: str) -> None:
    out = Path(f"out-{format}")
    assert call("transcribe", *two, *MODEL, *CTC, "--format", format, "--out", out) == 0
    files = [path for path in (out.iterdir() if out.is_dir() else [out]) if path.is_file()]
    text = "".join(sorted(path.read_text("utf-8") for path in files))
    assert len(files) == (2 if format in ("srt", "vtt", "textgrid") else 1)
    assert "ab" in text and "ef" in text
    assert not list(Path().rglob(".tmp*"))


@pytest.mark.parametrize(("format", "first"), [("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n")])
def test_subtitles_of_one_input_go_to_stdout(
    two: list[str], capsys: pytest.CaptureFixture, format: str, first: str
) -> None:
    assert call("transcribe", two[0], *MODEL, *CTC, "--format", format) == 0
    out = capsys.readouterr().out
    assert out.startswith(first) and "ab" in out
    assert call("transcribe", *two, *MODEL, *CTC, "--format", format) == 2
    assert "--out FOLDER" in capsys.readouterr().err


def test_ctm_counts_from_the_start_of_the_utterance(
    two: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert call("transcribe", two[1], *MODEL, *CTC, "--format", "ctm") == 0
    name, channel, start, duration, word, confidence = capsys.readouterr().out.split()
    assert (name, channel, word) == ("two", "1", "ef")
    assert float(start) == pytest.approx(0.3, abs=0.02)
    assert float(duration) == pytest.approx(0.4, abs=0.02)
    assert 0.0 < float(confidence) <= 1.0


def test_bad_inputs_among_good_ones(two: list[str], capsys: pytest.CaptureFixture) -> None:
    Path("empty.wav").touch()
    inputs = [two[0], "empty.wav", "missing.wav", two[1]]
    assert call("transcribe", *inputs, *MODEL, *CTC, "--out", "h.txt") == 3
    assert Path("h.txt").read_text() == "ab cd\nef\n"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("skipped: empty.wav: ")
    assert lines[1].startswith("skipped: missing.wav: ")
    assert lines[2] == "2 of 4 inputs skipped"
    assert call("transcribe", *inputs, *MODEL, *CTC, "--strict", "--out", "s.txt") == 2
    assert not Path("s.txt").exists()
    assert "error: empty.wav: the file is empty" in capsys.readouterr().err


@pytest.mark.parametrize("inputs", [["empty.wav"], ["empty.wav", "missing.wav"], ["folder"]])
def test_nothing_but_bad_inputs(inputs: list[str], capsys: pytest.CaptureFixture) -> None:
    Path("empty.wav").touch()
    Path("folder").mkdir()
    assert call("transcribe", *inputs, *MODEL, *CTC, "--format", "jsonl", "--out", "h.jsonl") == 2
    assert inputs[0] in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["empty.wav", "folder"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "textgrid"], "Add --out FOLDER"),
        (["--decoder", "ctc", "--ctc-weight", "0.5"], "has no effect with --decoder ctc"),
        (["--decoder", "ctc", "--beam", "4"], "expected beam 1"),
        (["--decoder", "ctc", "--length-bonus", "5"], "length_bonus is 5.0; expected 0"),
        (["--beam", "0"], "--beam"),
        (["--device", "warp"], "--device: found 'warp'"),
        (["--format", "docx"], "--format"),
    ],
)
def test_wrong_flags(
    two: list[str], flags: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert call("transcribe", *two, *MODEL, *flags) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1


def test_defaults_shown_are_those_of_the_search() -> None:
    arguments = transcribe_command._parser().parse_args(["a.wav", "--model", "m"])
    assert search_options(arguments) == SearchOptions()
    assert transcribe_command._fusion_options(arguments) == FusionOptions()


@pytest.mark.parametrize("command", ["transcribe", "align"])
def test_a_place_that_cannot_be_written(
    two: list[str], command: str, capsys: pytest.CaptureFixture
) -> None:
    Path("file").touch()
    flags = ["--text", "ab cd", "--format", "jsonl"] if command == "align" else CTC
    assert call(command, two[0], *MODEL, *flags, "--out", "file/h.jsonl") == 2
    assert "file/h.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("format", align_command.FORMATS)
def test_align_writes_every_format(two: list[str], format: str) -> None:
    Path(two[0]).rename("sounds/one.wav")
    for path, text in (("sounds/one.txt", "ab cd"), ("sounds/two.txt", "ef")):
        Path(path).write_text(text)
    out = Path({"ctm": "out.ctm", "cuts": "out.jsonl"}.get(format, f"out-{format}"))
    assert call("align", "sounds", *MODEL, "--format", format, "--out", out) == 0
    assert out.exists()
    assert not list(Path().rglob(".tmp*"))
    if format in ("textgrid", "ctm", "jsonl"):
        words = {word.label for row in read_alignments(out) for word in row.words}
        assert words == {"ab", "cd", "ef"}


def test_align_takes_its_text_from_a_file_or_a_string(two: list[str], speak: Callable) -> None:
    Path("words.txt").write_text("Ab, CD!")
    for text, labels in (("words.txt", ["Ab,", "CD!"]), ("AB cd", ["AB", "cd"])):
        arguments = ["align", two[0], *MODEL, "--text", text, "--format", "jsonl"]
        assert call(*arguments, "--unit", "char,word", "--out", "a.jsonl") == 0
        row = json.loads(Path("a.jsonl").read_text("utf-8"))
        keys = ["id", "audio", "start", "duration", "units", "confidence", "flags"]
        assert list(row) == keys
        assert [segment["label"] for segment in row["units"]["word"]] == labels
        assert [segment["label"] for segment in row["units"]["char"]] == list("abcd")
    long = "ab cd " * 700  # longer than the 4096 bytes that a path may have
    waveform = speak(long)
    waveform.save(Path("long.wav"))
    assert call("align", "long.wav", *MODEL, "--text", long, "--unit", "word", "--out", "o") == 0


def test_align_text_is_for_one_input(two: list[str], capsys: pytest.CaptureFixture) -> None:
    assert call("align", "sounds", *MODEL, "--text", "ab", "--out", "o") == 2
    assert "has 2 utterances; expected one" in capsys.readouterr().err


def test_align_names_what_does_not_fit(two: list[str], capsys: pytest.CaptureFixture) -> None:
    Path(two[0]).with_suffix(".txt").write_text("hg gh")
    Path(two[1]).with_suffix(".txt").write_text("ef")
    assert call("align", "sounds", *MODEL, "--format", "jsonl", "--out", "a.jsonl") == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1] == "1 of 2 inputs flagged"
    named = f"flagged: {Path(ODD_NAME).stem}: low_confidence; wrong_transcript: "
    assert lines[0].startswith(named) and "wrong_word: hg" in lines[0]
    patient = ["align", "sounds", *MODEL, "--edit-penalty", 1e9, "--out", "b"]
    assert call(*patient) == 3
    shown = capsys.readouterr().err
    assert "wrong_word" not in shown
    patient[patient.index("--edit-penalty")] = "--doubt-price"  # its old name
    assert call(*patient) == 3
    notice = "speechmm align: --doubt-price is now called --edit-penalty; use that.\n"
    assert capsys.readouterr().err == notice + shown
    assert len(Path("a.jsonl").read_text("utf-8").splitlines()) == 2


def test_align_skips_what_has_no_text(two: list[str], capsys: pytest.CaptureFixture) -> None:
    Path(two[1]).with_suffix(".lab").write_text("ef")
    assert call("align", "sounds", *MODEL, "--format", "jsonl", "--out", "a.jsonl") == 3
    assert "there is no text" in capsys.readouterr().err
    assert json.loads(Path("a.jsonl").read_text("utf-8"))["id"] == "two"
    assert call("align", "sounds", *MODEL, "--format", "jsonl", "--out", "b.jsonl", "--strict") == 2
    assert not Path("b.jsonl").exists()


def test_align_impossible_text(two: list[str], capsys: pytest.CaptureFixture) -> None:
    text = "ab " * 500
    assert call("align", two[0], *MODEL, "--text", text, "--out", "o") == 2
    assert "the text is longer than the audio allows" in capsys.readouterr().err
    assert call("align", two[0], *MODEL, "--text", "ab", "--unit", "phone", "--out", "o") == 2
    assert "'phone'; expected some of word, char" in capsys.readouterr().err


def test_align_draws_pictures(two: list[str]) -> None:
    arguments = ["align", two[0], *MODEL, "--text", "ab cd", "--out", "o"]
    assert call(*arguments, "--pictures", "pictures") == 0
    (picture,) = Path("pictures").iterdir()
    assert picture.suffix == ".png"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--aligner", "ctc", "--pictures", "p"], "--pictures: has no effect with --aligner ctc"),
        (["--label-prior", "1"], "--label-prior: has no effect with --aligner head"),
    ],
)
def test_align_refuses_what_the_aligner_does_not_heed(
    two: list[str], flags: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert call("align", two[0], *MODEL, "--text", "ab cd", "--out", "o", *flags) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
    assert not Path("o").exists()


def test_align_of_cuts_counts_from_the_start_of_the_cut(speak: Callable) -> None:
    from speechmm.data.manifest import make_cut, write_cuts

    speech = speak("ab cd ef", pauses=[1.0])
    audio = speech.save(Path("all.wav"))
    start = speech.words[1].start - 0.3
    cut = make_cut(id="c/1", audio=audio, text="CD", start=start, duration=1.0)
    write_cuts([cut], Path("cuts.jsonl.gz"))
    assert call("align", "cuts.jsonl.gz", *MODEL, "--format", "jsonl", "--out", "a.jsonl") == 0
    (row,) = read_alignments(Path("a.jsonl"))
    assert (row.id, row.words[0].label) == ("c/1", "CD")
    assert row.words[0].start == pytest.approx(0.3, abs=0.011)


def test_transcribing_one_file_imports_little(random_bundle: Path, two: list[str]) -> None:
    """A real bundle in a fresh interpreter; start-up is what a user waits for."""
    code = (
        "import sys; from speechmm.cli.main import main\n"
        f"code = main({['transcribe', two[0], '--model', str(random_bundle)]!r})\n"
        "heavy = {'lightning', 'lhotse', 'matplotlib', 'librosa', 'numba', 'jiwer', 'praatio',\n"
        "    'torch._dynamo', 'triton', 'sympy', 'scipy'}\n"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr


def test_a_damaged_bundle_is_one_line(
    random_bundle: Path, two: list[str], program: Callable, tmp_path: Path
) -> None:
    import shutil

    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        copy = tmp_path / f"without {name}"
        shutil.copytree(random_bundle, copy)
        (copy / name).unlink()
        result = program("transcribe", two[0], "--model", copy)
        assert result.returncode == 2
        assert name in result.stderr and len(result.stderr.splitlines()) == 1


def test_python_front_door(
    random_bundle: Path, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(two[0]).resolve()
    monkeypatch.undo()
    import speechmm

    model = speechmm.load(random_bundle)
    transcript = model.transcribe(path)
    assert transcript.text.split() == [word.label for word in transcript.words]
    assert [word.label for word in model.align(path, "ab - cd").words] == ["ab", "-", "cd"]
    assert list(model.align(path, "ab", units=["char"]).units) == ["char"]
    assert model.transcribe(path, options=SearchOptions(decoder="ctc")).audio == str(path)


@pytest.fixture
def hear_words(random_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands load a real model, one that has learnt nothing."""
    bundle = load_bundle(random_bundle)
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: bundle)


@pytest.mark.usefixtures("hear_words")
def test_fuses_ngrams_hotwords_and_a_lexicon(
    two: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = {}

    def search(model, encoding, options, scorers=(), **kept):
        heard["scorers"] = list(scorers)
        return transcriber.search_originally(model, encoding, options, scorers, **kept)

    monkeypatch.setattr(transcriber, "search_originally", transcriber.search, raising=False)
    monkeypatch.setattr(transcriber, "search", search)
    Path("texts.txt").write_text("ab cd\nef\n", "utf-8")
    assert call("ngram", "texts.txt", "--order", 2, "--out", "lm.arpa.gz") == 0
    assert capsys.readouterr().out == "lm.arpa.gz: 11 n-grams of 6 words, 2 texts\n"
    flags = ["--lm", "lm.arpa.gz", "--lm-weight", 0.5, "--hotwords", "ab cd, ef", "--beam", 4]
    flags += ["--words", "texts.txt", "--oov-penalty", 2]
    assert call("transcribe", *two, *MODEL, *flags, "--format", "jsonl", "--out", "h.jsonl") == 0
    ngrams, phrases, words = heard["scorers"]
    assert (words.words, words.oov_penalty) == (["ab", "cd", "ef"], 2.0)
    assert (ngrams.weight, ngrams.model.order) == (0.5, 2)
    assert float(phrases.gain.max()) == 1.0
    decoding = json.loads(Path("h.jsonl.meta.json").read_text("utf-8"))["decoding"]
    assert decoding["lm"] == "lm.arpa.gz"
    assert decoding["hotwords"] == "ab cd, ef"
    assert (decoding["words"], decoding["oov_penalty"]) == (["texts.txt"], 2.0)


@pytest.mark.usefixtures("hear_words")
def test_the_old_name_of_the_oov_penalty_works_and_names_the_new_one(
    two: list[str], capsys: pytest.CaptureFixture
) -> None:
    Path("texts.txt").write_text("ab cd\nef\n", "utf-8")
    results = []
    for flag in ("--oov-penalty", "--word-price"):
        assert call("transcribe", *two, *MODEL, "--words", "texts.txt", flag, 2) == 0
        results.append(capsys.readouterr())
    assert results[0].out == results[1].out
    now_called = "speechmm transcribe: --word-price is now called --oov-penalty; use that.\n"
    assert results[1].err == now_called + results[0].err


@pytest.mark.usefixtures("hear_words")
def test_hotwords_that_cannot_be_spelled_are_named(
    two: list[str], capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    call("transcribe", *two, *MODEL, "--hotwords", "ab cd, Łódź, ...")
    assert "cannot spell 'Łódź', '...'; left out" in caplog.text


@pytest.mark.usefixtures("hear_words")
def test_several_readings(two: list[str], capsys: pytest.CaptureFixture) -> None:
    flags = ["--beam", 4, "--n-best", 3, "--format", "jsonl"]
    assert call("transcribe", *two, *MODEL, *flags) == 0
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        scores = [other["score"] for other in row["alternatives"]]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        assert row["alternatives"][0]["text"] == row["text"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--lm", "nowhere.arpa"], "nowhere.arpa: cannot be read"),
        (["--lm-weight", "0.5"], "--lm-weight: has no effect without --lm"),
        (["--hotword-bonus", "2"], "--hotword-bonus: has no effect without --hotwords"),
        (["--hotwords", "ab", *CTC], "greedy CTC does not search"),
        (["--oov-penalty", "2"], "--oov-penalty: has no effect without --words"),
        (["--words", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--n-best", "3"], "expected 1 <= n_best <= beam"),
        (["--lm", "."], "config.json is missing"),
    ],
)
def test_mistakes_with_external_scores(
    flags: list[str], complaint: str, two: list[str], capsys: pytest.CaptureFixture
) -> None:
    assert call("transcribe", *two, *MODEL, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_calibration_refuses_what_transcription_refuses(capsys: pytest.CaptureFixture) -> None:
    assert call("calibrate", "bundle", "dev.jsonl", *CTC, "--ctc-weight", "0.5") == 2
    assert "--ctc-weight: has no effect with --decoder ctc" in capsys.readouterr().err


def test_calibration_goes_into_the_bundle(
    speak: Callable, random_bundle: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """Half of the texts are wrong: confidences near 1 must come down to a half."""
    shutil.copytree(random_bundle, "bundle")
    cuts = []
    for number in range(40):
        word = ["ab", "cd", "ef", "gh"][number % 4]
        audio = speak(word).save(tmp_path / f"{number}.wav")
        cuts.append(make_cut(id=str(number), audio=audio, text=word if number < 20 else "hg"))
    write_cuts(cuts, Path("dev.jsonl"))
    assert call("calibrate", "bundle", "dev.jsonl", *CTC) == 0
    assert "20 of 40 words right" in capsys.readouterr().out
    found = json.loads(Path("bundle/config.json").read_text("utf-8"))["confidence"]["ctc"]
    assert (found["words"], found["correct"]) == (40, 20)
    assert found["calibrated_error_held_out"] < 0.1 < found["expected_calibration_error"]
    assert asdict(load_bundle("bundle").confidence["ctc"]) == found
    write_cuts(cuts[:5], Path("few.jsonl"))
    assert call("calibrate", "bundle", "few.jsonl", *CTC) == 2
    assert "5 words were recognised; expected at least 30" in capsys.readouterr().err


def test_alignments_are_checked_without_a_reference(
    speak: Callable, capsys: pytest.CaptureFixture
) -> None:
    speech = speak("ab cd ef gh ba", pauses=[0.3, 0.2])
    cut = make_cut(id="one", audio=speech.save(Path("one.wav")), text=speech.text)
    write_cuts([cut], Path("dev.jsonl"))
    aligned = ["align", "dev.jsonl", *MODEL, "--format", "jsonl", "--out", "aligned.jsonl"]
    assert call(*aligned) == 0
    capsys.readouterr()
    check = ["check-alignment", "aligned.jsonl", "dev.jsonl", *MODEL, "--out", "check.json"]
    assert call(*check) == 0
    assert "5 words, cut out at their times" in capsys.readouterr().out
    found = json.loads(Path("check.json").read_text("utf-8"))
    rates = {row["shift_ms"]: row["cer"] for row in found["shifts"]}
    assert rates[0] == 0.0
    assert rates[-200] >= 0.4  # each letter lasts 0.2 s: the last one of each word is not heard
    assert call(*check, "--most", 3) == 0
    assert json.loads(Path("check.json").read_text("utf-8"))["words"] == 3
    write_cuts([make_cut(id="other", audio=Path("one.wav"), text="ab")], Path("other.jsonl"))
    assert call("check-alignment", "aligned.jsonl", "other.jsonl", *MODEL) == 2
    assert "no word of other.jsonl in it" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["jsonl", "trn", "ctm", "text"])
def test_a_bug_met_in_one_input_is_named_and_the_others_are_written(
    format: str, two: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(two[1])
    shutil.copy(whole, whole.with_name("odd.flac"))
    load = transcriber.Source.load

    def odd(self: transcriber.Source, sample_rate: int) -> object:
        if "odd" in self.audio:
            raise RuntimeError("a bug\nof two lines")
        return load(self, sample_rate)

    monkeypatch.setattr(transcriber.Source, "load", odd)
    assert call("transcribe", "sounds", *MODEL, *CTC, "--format", format) == 3
    found = capsys.readouterr()
    assert len(found.out.splitlines()) == (3 if format == "ctm" else 2)
    assert "skipped: sounds/odd.flac: " in found.err
    assert "(RuntimeError: a bug of two lines)" in found.err
    assert "Traceback" not in found.err


def test_a_transcript_that_cannot_be_written_is_named(
    two: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechmm.inference.recognition import writers

    line = writers.trn_line

    def odd(id: str, text: str) -> str:
        if id == "two":
            raise ValueError("odd id")
        return line(id, text)

    monkeypatch.setattr(writers, "trn_line", odd)
    assert call("transcribe", *two, *MODEL, *CTC, "--format", "trn", "--out", "t.trn") == 3
    assert Path("t.trn").read_text(encoding="utf-8").startswith("ab cd (")
    assert f"skipped: {two[1]}: " in capsys.readouterr().err


@pytest.fixture
def stereo(speak: Callable) -> Path:
    """A file that says "ab cd" on channel 0 and "ef" on channel 1."""
    path = Path("calls/stereo.wav")
    path.parent.mkdir()
    both = [speak("ab cd").waveform, speak("ef").waveform]
    longest = max(map(len, both))
    padded = [torch.nn.functional.pad(one, (0, longest - len(one))) for one in both]
    soundfile.write(path, torch.stack(padded, dim=1).numpy(), 16_000, subtype="FLOAT")
    return path


def test_one_channel_of_every_file(
    stereo: Path, speak: Callable, capsys: pytest.CaptureFixture
) -> None:
    for channel, text in ((0, "ab cd"), (1, "ef")):
        assert call("transcribe", "calls", *MODEL, *CTC, "--channel", channel) == 0
        assert capsys.readouterr().out == f"{text}\n"
    speak("ef").save(stereo.with_name("mono.wav"))
    assert call("transcribe", "calls", *MODEL, *CTC, "--channel", 1) == 3
    printed = capsys.readouterr()
    assert printed.out == "ef\n"
    assert "mono.wav: channel 1 was asked for, and it has 1; expected one of 0" in printed.err
    assert call("transcribe", stereo, *MODEL, *CTC, "--channel", 2) == 2
    assert (
        "channel 2 was asked for, and it has 2; expected one of 0 to 1" in capsys.readouterr().err
    )
    assert call("transcribe", stereo, *MODEL, "--channel", "-1") == 2
    assert "--channel: found '-1'" in capsys.readouterr().err
    write_cuts([make_cut(id="a", audio=stereo, text="ef")], Path("cuts.jsonl"))
    assert call("transcribe", "cuts.jsonl", *MODEL, "--channel", 1) == 2
    assert "--channel: cuts.jsonl holds cuts" in capsys.readouterr().err


def test_aligned_cuts_have_the_channel(stereo: Path) -> None:
    said = ["--text", "ef", "--channel", 1]
    assert call("align", stereo, *MODEL, *said, "--format", "cuts", "--out", "c.jsonl") in (0, 3)
    cut = json.loads(Path("c.jsonl").read_text("utf-8"))
    assert (cut["channel"], cut["supervisions"][0]["channel"]) == (1, 1)
    assert "averaged_channels" not in (cut.get("custom") or {})


def test_rows_name_the_channel(stereo: Path, capsys: pytest.CaptureFixture) -> None:
    cuts = [make_cut(id=f"c{n}", audio=stereo, text="ef", channel=n) for n in (1, None)]
    write_cuts(cuts, Path("cuts.jsonl"))
    capsys.readouterr()
    found = []
    for given in ((stereo, "--channel", 1), (stereo,), ("cuts.jsonl",)):
        assert call("transcribe", *given, *MODEL, *CTC, "--format", "jsonl") == 0
        found += [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("channels") for row in found] == [[1], None, [1], None]
    as_jsonl = ["--format", "jsonl", "--out", "-"]
    assert call("align", "cuts.jsonl", *MODEL, *as_jsonl) in (0, 3)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("channels") for row in rows] == [[1], None]
    assert [Alignment.from_dict(row).channels for row in rows] == [(1,), ()]


def test_manifests_name_no_pipe(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.jsonl"
    os.mkfifo(tmp_path / "pipe")
    as_cuts = ["--text", "ef", "--format", "cuts"]
    with Path(two[1]).open("rb") as recording:
        for source in ("-", "/dev/stdin", f"/dev/fd/{recording.fileno()}", tmp_path / "pipe"):
            for command in (["pseudo-label", source], ["align", source, *as_cuts]):
                if source == tmp_path / "pipe":
                    content = Path(two[1]).read_bytes()
                    threading.Thread(target=source.write_bytes, args=(content,)).start()
                assert call(*command, *MODEL, "--out", out) == 2
                said = capsys.readouterr().err
                assert "this audio is in no file that" in said
                assert said.count("\n") == 1
    assert not out.exists()


def test_a_dash_is_stdin_and_stdout(
    two: list[str], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("transcribe", two[1], *MODEL, *CTC, "--out", "-") == 0
    assert capsys.readouterr().out == "ef\n"
    assert call("align", two[1], *MODEL, "--text", "ef", "--format", "ctm", "--out", "-") in (0, 3)
    assert " ef" in capsys.readouterr().out
    assert not Path("-").exists()
    assert call("align", two[1], *MODEL, "--text", "ef", "--out", "-") == 2
    assert "not written to stdout" in capsys.readouterr().err
    with Path(two[1]).open("rb") as recording:
        kept = os.dup(0)
        os.dup2(recording.fileno(), 0)
        try:
            assert call("transcribe", "-", *MODEL, *CTC, "--format", "trn") == 0
        finally:
            os.dup2(kept, 0)
            os.close(kept)
    assert capsys.readouterr().out == "ef (stdin)\n"

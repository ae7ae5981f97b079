"""Transcripts to train on: kept where both directions agree, dropped with a reason where not."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from speechmm.alignments import Alignment, Segment
from speechmm.cli.main import main
from speechmm.data.manifest import cut_text, make_cut, read_cuts, reference_alignment, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.engine.sources import Source, file_sources
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.pseudo_labels import (
    Agreement,
    PseudoLabeller,
    duration_error,
)
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.voice import VoiceConfig

CTC = SearchOptions(decoder="ctc", speech_gate=False)


def labeller(bundle, **agreement) -> PseudoLabeller:
    return PseudoLabeller(
        bundle,
        Transcriber(bundle, options=CTC, word_times=False),
        Aligner(bundle),
        Agreement(**agreement),
    )


@pytest.fixture
def recordings(speak, tmp_path: Path) -> list[Path]:
    """Two utterances, one without a word."""
    paths = [speak("ab cd a hf", pauses=[0.3]).save(tmp_path / "one.wav")]
    paths.append(speak("cd ab", pauses=[0.2]).save(tmp_path / "two.wav"))
    soundfile.write(tmp_path / "three.wav", torch.zeros(16_000).numpy(), 16_000)
    return [*map(Path, paths), tmp_path / "three.wav"]


def test_what_both_agree_on_is_kept_with_its_times(tone_bundle, recordings):
    found = list(labeller(tone_bundle).label(list(file_sources(recordings)), SkipReport()))
    assert [one.reason for one in found] == ["", "", "nothing_said"]
    cut = found[0].cut()
    assert cut_text(cut) == "ab cd a hf"
    alignment = reference_alignment(cut)
    assert alignment is not None
    assert [one.label for one in alignment.words] == ["ab", "cd", "a", "hf"]
    assert cut.custom == {"pseudo_label": pytest.approx(found[0].transcript.confidence, abs=1e-4)}
    assert found[0].duration_error is None


@pytest.mark.parametrize(
    ("agreement", "reason"),
    [({"confidence": 1.0}, "low_confidence"), ({"alignment": 1.0}, "unlikely")],
)
def test_what_is_not_sure_is_dropped_with_a_reason(tone_bundle, recordings, agreement, reason):
    found = labeller(tone_bundle, **agreement).label(list(file_sources(recordings)), SkipReport())
    assert [one.reason for one in found] == [reason, reason, "nothing_said"]


def test_a_transcript_that_ctc_does_not_hear_is_a_mismatch(tone_bundle, recordings, monkeypatch):
    """The decoder has written what nobody said."""
    made = labeller(tone_bundle, confidence=0.0, alignment=0.0)
    original = made.transcriber.transcribe_sources

    def wrong(sources, *, skipped):
        for one in original(sources, skipped=skipped):
            yield replace(one, text=one.text.replace("cd", "fh")) if one.text else one

    monkeypatch.setattr(made.transcriber, "transcribe_sources", wrong)
    found = list(made.label(list(file_sources(recordings)), SkipReport()))
    assert [one.reason for one in found] == ["mismatch", "mismatch", "nothing_said"]
    monkeypatch.setattr("speechmm.inference.recognition.pseudo_labels.ONE_PASS_SECONDS", 0.5)
    assert {one.reason for one in made.label(list(file_sources(recordings)), SkipReport())} == {
        "too_long",
        "nothing_said",
    }


def test_a_loop_is_dropped_however_sure_recognition_is(tone_bundle, speak, tmp_path, capsys):
    loop = speak("ab cd " * 3, pauses=[0.3]).save(tmp_path / "loop.wav")
    twice = speak("ab cd " * 2, pauses=[0.3]).save(tmp_path / "twice.wav")
    some = speak("hf " + "ab " * 5, pauses=[0.3]).save(tmp_path / "some.wav")
    made = labeller(tone_bundle, confidence=0.0, alignment=0.0)
    found = list(made.label(list(file_sources([loop, twice, some])), SkipReport()))
    assert [one.reason for one in found] == ["", "", "repeated"]
    assert found[2].transcript.flags == ("repeated: ab (5 times)",)
    loop = speak("ab cd a hf e g " * 2, pauses=[0.3]).save(tmp_path / "loop.wav")
    (found,) = made.label(list(file_sources([loop])), SkipReport())
    assert found.reason == "repeated"


def test_the_language_that_was_recognised_is_kept(tone_bundle, recordings, tmp_path, monkeypatch):
    made = labeller(tone_bundle)
    original = made.transcriber.transcribe_sources

    def german(sources, *, skipped):
        for one in original(sources, skipped=skipped):
            yield replace(one, language="de")

    def languages(sources: list[Source]) -> list[list[str | None]]:
        found = [one.cut() for one in made.label(sources, SkipReport()) if not one.reason]
        write_cuts(found, tmp_path / "kept.jsonl.gz")
        cuts = read_cuts(tmp_path / "kept.jsonl.gz")
        return [[one.language for one in cut.supervisions] for cut in cuts]

    files = recordings[:2]
    cuts = [
        make_cut(id="none", audio=files[0], text=None),
        make_cut(id="some", audio=files[0], text="hf", language="nl"),
        make_cut(id="same", audio=files[1], text="cd ab"),
    ]
    bare = make_cut(id="bare", audio=files[0], text="").drop_supervisions()
    sources = [Source(id=cut.id, audio=str(files[0]), cut=cut) for cut in [*cuts, bare]]
    assert languages(list(file_sources(files))) == [[None], [None]]
    monkeypatch.setattr(made.transcriber, "transcribe_sources", german)
    assert languages(list(file_sources(files))) == [["de"], ["de"]]
    assert languages(sources) == [["de"], ["nl"], ["de"], ["de"]]


@pytest.mark.parametrize("wrong", [{"confidence": 1.1}, {"alignment": -0.1}, {"durations": -1.0}])
def test_limits_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="agreement: "):
        Agreement(**wrong)


def test_the_voice_compares_durations_at_the_speed_of_the_utterance(tone_bundle, monkeypatch):
    model = tone_bundle.model

    class Voice:
        mel_mean = torch.zeros(1)
        config = VoiceConfig()

        def tokens(self, tokens, lengths, speakers):
            return tokens[:, :, None].float()

        def log_durations(self, vectors, lengths):
            return torch.ones(vectors.shape[:2])

        def durations(self, log_durations):
            return 5.0 * log_durations

    monkeypatch.setattr(type(model), "voice", property(lambda self: Voice()))

    def said(*seconds: float) -> Alignment:
        edges = [float(sum(seconds[:place])) for place in range(len(seconds) + 1)]
        units = [
            Segment(label="a", start=start, end=end) for start, end in itertools.pairwise(edges)
        ]
        return Alignment(id="a", duration=edges[-1], units={"char": units})

    assert duration_error(tone_bundle, "ab cd", said(0.1, 0.1, 0.1, 0.1)) == pytest.approx(0.0)
    assert duration_error(tone_bundle, "ab cd", said(0.3, 0.3, 0.3, 0.3)) == pytest.approx(0.0)
    assert duration_error(tone_bundle, "ab cd", said(0.02, 0.6, 0.02, 0.02)) > 0.6


def test_the_command_writes_a_manifest_and_says_what_it_dropped(
    random_bundle: Path, recordings, tmp_path: Path, capsys
):
    out, report = tmp_path / "kept.jsonl.gz", tmp_path / "report.jsonl"
    command = ["pseudo-label", *map(str, recordings), "--model", str(random_bundle)]
    assert (
        main([*command, "--out", str(out), "--report", str(report)]) == 2
    )  # nothing of an untrained model is believed
    assert not out.exists()
    assert "no transcript of 3 is believed" in capsys.readouterr().err
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["dropped"] for row in rows)
    assert main([*command, "--out", str(out), "--report", str(report)]) == 2  # once more
    assert "no transcript of 3 is believed" in capsys.readouterr().err
    assert main([*command, "--out", str(out), "--report", str(out)]) == 2
    assert "--out already" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "kept.txt")]) == 2


def test_the_command_keeps_what_agrees(tone_bundle, recordings, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("speechmm.cli.pseudo_label.load_model", lambda arguments: tone_bundle)
    out = tmp_path / "kept.jsonl.gz"
    command = ["pseudo-label", *map(str, recordings), "--model", "tones", "--decoder", "ctc"]
    assert main([*command, "--device", "cpu", "--out", str(out)]) == 0
    assert [cut_text(cut) for cut in read_cuts(out)] == ["ab cd a hf", "cd ab"]
    printed = capsys.readouterr().out
    assert "kept 2 of 3 transcripts" in printed
    assert "dropped: nothing_said 1" in printed


def test_two_utterances_of_one_id_are_two(tone_bundle, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("speechmm.cli.pseudo_label.load_model", lambda arguments: tone_bundle)
    manifests = [tmp_path / f"{name}.jsonl.gz" for name in "ab"]
    for path, audio in zip(manifests, recordings, strict=False):
        write_cuts([make_cut(id="0001", audio=audio, text="x")], path)
    out = tmp_path / "kept.jsonl.gz"
    command = ["pseudo-label", *map(str, manifests), "--model", "tones", "--decoder", "ctc"]
    assert main([*command, "--device", "cpu", "--out", str(out)]) == 0
    assert {cut.id: cut_text(cut) for cut in read_cuts(out)} == {
        "0001": "ab cd a hf",
        "0001-2": "cd ab",
    }

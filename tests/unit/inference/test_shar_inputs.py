"""``transcribe`` and ``align`` read lhotse Shar as they read a manifest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from speechmm.cli.main import main
from speechmm.data.manifest import make_cut, read_cuts, write_cuts
from speechmm.data.shar_writing import write_shar
from speechmm.data.skips import SkipReport
from speechmm.models.bundle import Bundle

MODEL = ("--model", "tones")
CTC = ("--decoder", "ctc")


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def folder(
    speak: Callable, tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """Three utterances, two of them parts of one recording; the manifest is in ``cuts.jsonl``."""
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.chdir(tmp_path)
    long = speak("ab cd ef gh").save(Path("sounds/long.flac"), "PCM_16")
    other = speak("ef").save(Path("sounds/other.flac"), "PCM_16")
    cuts = [
        make_cut(id="first", audio=long, text="ab cd", duration=1.6),
        make_cut(id="second", audio=long, text="ef gh", start=1.6),
        make_cut(id="other", audio=other, text="ef"),
    ]
    write_cuts(cuts, tmp_path / "cuts.jsonl")
    shar = tmp_path / "cuts.shar"
    shar.mkdir()
    write_shar(cuts, shar, 2, SkipReport(strict=True))
    return shar


def rows(path: Path) -> dict[str, dict]:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row for row in found}


def test_transcripts_and_alignments(folder: Path) -> None:
    for command, flags in (("transcribe", CTC), ("align", ())):
        for name in ("cuts.jsonl", "cuts.shar"):
            out = f"{command}-{name}.jsonl"
            assert call(command, name, *MODEL, *flags, "--format", "jsonl", "--out", out) == 0
        by_file, by_archive = (
            rows(Path(f"{command}-{name}.jsonl")) for name in ("cuts.jsonl", "cuts.shar")
        )
        assert by_file.keys() == by_archive.keys() == {"first", "second", "other"}
        for name, row in by_archive.items():
            assert row["audio"].endswith(f".tar/{name}")
            assert row["start"] == 0.0
            same = ("text", "confidence") if command == "transcribe" else ("units", "confidence")
            assert {key: row[key] for key in same} == {key: by_file[name][key] for key in same}
    out = Path("aligned.jsonl.gz")
    assert call("align", folder, *MODEL, "--format", "cuts", "--out", out) == 0
    assert all(cut.supervisions[0].alignment for cut in read_cuts(out))
    assert call("score-alignment", out, "align-cuts.jsonl.jsonl", "--out", "report") == 0


def test_a_damaged_archive_is_skipped_by_name(folder: Path, capsys: pytest.CaptureFixture) -> None:
    tar = folder / "recording.000001.tar"
    tar.write_bytes(tar.read_bytes()[:300])
    assert call("transcribe", folder, *MODEL, *CTC) == 3
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert str(tar) in captured.err
    assert captured.err.splitlines()[-1] == "1 of 3 inputs skipped"


def test_channels_are_those_of_the_cuts(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("transcribe", folder, *MODEL, "--channel", 0) == 2
    assert "holds cuts, which name their channels" in capsys.readouterr().err

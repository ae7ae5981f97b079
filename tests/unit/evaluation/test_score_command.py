"""``speechmm score`` from files to report, page and exit code."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechmm.cli.main import main
from speechmm.data.manifest import make_cut
from speechmm.evaluation import page

REPORT_KEYS = {
    "wer",
    "cer",
    "ser",
    "normalizer",
    "utterances",
    "by_speaker",
    "confusions",
    "model",
    "checkpoint_sha256",
    "decoding",
    "command",
    "git_commit",
    "seed",
    "rtf",
}
COUNT_KEYS = {
    "value",
    "substitutions",
    "deletions",
    "insertions",
    "hits",
    "reference_words",
    "ci95",
}
NASTY = "<script>alert(1)</script> \"quotes' & <img src=x onerror=alert(1)> </script>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        ("u1", "ann", "Hello, world!", "hello world"),
        ("u2", "ann", "one two three", "one too three four"),
        ("u3", "bob", NASTY, "script"),
        ("u4", "bob", "", "noise"),
    ]
    wave = 0.1 * np.sin(np.arange(16000) / 8)
    with (tmp_path / "ref.jsonl").open("w", encoding="utf-8") as file:
        for id, speaker, text, _ in rows:
            audio = tmp_path / f'{id} "it\'s".wav'
            soundfile.write(audio, wave, 16000)
            row: dict[str, Any] = {"id": id, "audio": str(audio), "duration": 1.0}
            file.write(json.dumps({**row, "speaker": speaker, "text": text}) + "\n")
    with (tmp_path / "hyp.jsonl").open("w", encoding="utf-8") as file:
        for id, _, _, text in rows:
            file.write(json.dumps({"id": id, "text": text, "confidence": 0.5}) + "\n")
    return tmp_path


def run(folder: Path, *more: str, hyp: str = "hyp.jsonl", ref: str = "ref.jsonl") -> int:
    return main(["score", str(folder / hyp), str(folder / ref), *more])


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def clips_of(page: str) -> list[bytes]:
    """The recordings that a page plays."""
    return [
        base64.b64decode(one) for one in re.findall(r'src="data:audio/\w+;base64,([^"]+)"', page)
    ]


def strongest_hertz(clip: bytes) -> list[float]:
    """The tones in a recording that are at least a third as strong as its strongest."""
    samples, rate = soundfile.read(io.BytesIO(clip))
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    local = (
        (power[1:-1] > power[:-2]) & (power[1:-1] >= power[2:]) & (power[1:-1] > power.max() / 3)
    )
    return list((1 + np.flatnonzero(local)) * rate / len(samples))


def test_report_has_what_the_interface_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--out", str(folder / "out")) == 0
    report = report_of(folder / "out")
    assert report.keys() >= REPORT_KEYS
    assert report["wer"].keys() >= COUNT_KEYS
    assert report["cer"].keys() >= COUNT_KEYS
    wer = report["wer"]
    errors = wer["substitutions"] + wer["deletions"] + wer["insertions"]
    assert wer["value"] == errors / wer["reference_words"]
    assert wer["hits"] + wer["substitutions"] + wer["deletions"] == wer["reference_words"]
    assert wer["ci95"][0] <= wer["value"] <= wer["ci95"][1]
    assert report["ser"]["value"] == 3 / 4
    assert report["by_speaker"]["ann"]["reference_words"] == 5
    assert {"type": "substitution", "reference": "two", "hypothesis": "too", "count": 1} in report[
        "confusions"
    ]
    assert report["command"].startswith("speechmm score ")
    assert (report["model"], report["seed"], report["rtf"]) == (None, None, None)
    out = capsys.readouterr().out
    assert "normalizer multilingual" in out
    assert f"{100 * wer['value']:.2f}" in out


def test_what_made_the_transcripts_comes_from_beside_them(folder: Path) -> None:
    meta = {"model": "exp/bundle", "checkpoint_sha256": "ab", "decoding": {"beam": 4}}
    meta |= {"git_commit": "c0ffee", "seed": 7, "rtf": 0.02, "command": "speechmm transcribe x"}
    parts = {"search": 1.5, "reading": 0.25}
    meta |= {"efficiency": {"parameters": 1234567, "model_bytes": 5_000_000, "threads": 2}}
    meta["efficiency"] |= {"peak_memory_bytes": 700_000_000, "seconds_by_part": parts}
    (folder / "hyp.jsonl.meta.json").write_text(json.dumps(meta), encoding="utf-8")
    assert run(folder, "--out", str(folder / "out")) == 0
    report = report_of(folder / "out")
    assert report["transcribe_command"] == meta.pop("command")
    assert {key: report[key] for key in meta} == meta
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    for shown in ("1,234,567", "50 times as fast", "700 MB", "<td>search</td>"):
        assert shown in page


def test_missing_hypotheses_count_as_deletions_and_change_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "hyp.trn").write_text("hello world (u1)\nnobody (u9)\n", encoding="utf-8")
    (folder / "ref.trn").write_text("hello world (u1)\na b c (u2)\n", encoding="utf-8")
    assert run(folder, "--out", str(folder / "out"), hyp="hyp.trn", ref="ref.trn") == 3
    report = report_of(folder / "out")
    assert report["wer"]["deletions"] == 3
    assert report["wer"]["insertions"] == 0
    errors = capsys.readouterr().err
    assert re.search(r"skipped: .*hyp.trn: u2: it has no hypothesis", errors)
    assert re.search(r"skipped: .*hyp.trn: u9: it has no reference", errors)
    assert errors.splitlines()[-1] == "2 of 3 utterances skipped"


def test_what_the_model_says_is_played(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = folder / "spoken.jsonl"
    word = {"label": "go", "start": 0.25, "end": 0.5, "confidence": None}
    row = {"id": "u1", "audio": str(folder / 'u1 "it\'s".wav'), "start": 0.0, "duration": 1.0}
    rows = [
        row
        | {"units": {"word": [word, word | {"label": NASTY.split(maxsplit=1)[0], "start": 0.5}]}}
    ]
    rows += [row | {"id": f"more-{i}", "units": {"word": [word]}} for i in range(6)]
    times.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    assert run(folder, "--out", str(folder / "out"), "--spoken", str(times)) == 0
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    section = page.split('<section id="spoken">')[1].split("</section>")[0]
    assert section.count('src="data:audio/') == 5
    assert section.count("<article>") == 5
    assert 'style="left:25.0%;width:25.0%" data-from="0.250" data-to="0.500">go<' in section
    assert "go &lt;script&gt;alert(1)&lt;/script&gt;" in section
    assert "u1, 1.00 s" in section
    capsys.readouterr()
    mute = json.dumps(row | {"audio": "gone.wav", "units": {"word": [word]}})
    (folder / "mute.jsonl").write_text(mute + "\n", encoding="utf-8")
    for path, said in (
        (folder / "hyp.jsonl", "alignment row"),
        (folder / "mute.jsonl", "names no audio that can be played"),
        (folder / "none.jsonl", "none.jsonl"),
    ):
        assert run(folder, "--out", str(folder / "o"), "--spoken", str(path)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
        assert not (folder / "o").exists()
    assert run(folder, "--spoken", str(times)) == 2
    assert "has no effect without --out" in capsys.readouterr().err


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)


def test_page_is_whole_and_everything_in_it_is_escaped(folder: Path) -> None:
    verbatim = ("--normalizer", "verbatim")
    assert run(folder, "--out", str(folder / NASTY.replace("/", "")), *verbatim) == 0
    text = (folder / NASTY.replace("/", "") / "report.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in parsed.tags]
    assert not any(name.startswith("on") for _, values in parsed.tags for name in values)
    urls = [values.get("src") or values.get("href") for _, values in parsed.tags]
    assert all(url is None or url.startswith("data:") for url in urls)
    rows = json.loads(parsed.scripts[0])
    assert {row["id"] for row in rows} == {"u1", "u2", "u3", "u4"}
    assert ["S", "<script>alert(1)</script>", "script"] in next(
        row["a"] for row in rows if row["id"] == "u3"
    )


def test_worst_utterances_can_be_heard(folder: Path) -> None:
    assert run(folder, "--out", str(folder / "out")) == 0
    parsed = Page((folder / "out/report.html").read_text(encoding="utf-8"))
    players = [values for tag, values in parsed.tags if tag == "audio"]
    assert len(players) == 3
    assert all((one["src"] or "").startswith("data:audio/") for one in players)


@pytest.mark.parametrize("said_by", ["channel", "custom", "transcript"])
def test_the_speaker_on_the_channel_of_the_cut_is_heard(tmp_path: Path, said_by: str) -> None:
    audio, time = tmp_path / "call.wav", np.arange(16000) / 16000
    speakers = [0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (300, 2000, 1000)]
    soundfile.write(audio, np.stack(speakers, axis=1), 16000)
    cut = make_cut(id="u1", audio=audio, text="one two", channel=1).to_dict()
    if said_by == "custom":
        cut = {**cut, "channel": [0, 1, 2], "custom": {"averaged_channels": [1]}}
    hypothesis: dict[str, Any] = {"id": "u1", "text": "one too"}
    if said_by == "transcript":
        hypothesis |= {"audio": str(audio), "duration": 1.0, "channels": [1]}
        (tmp_path / "ref.trn").write_text("one two (u1)\n", encoding="utf-8")
    else:
        (tmp_path / "ref.jsonl").write_text(json.dumps(cut) + "\n", encoding="utf-8")
    (tmp_path / "hyp.jsonl").write_text(json.dumps(hypothesis) + "\n", encoding="utf-8")
    ref = "ref.trn" if said_by == "transcript" else "ref.jsonl"
    assert run(tmp_path, "--out", str(tmp_path / "out"), ref=ref) == 0
    found = clips_of((tmp_path / "out/report.html").read_text(encoding="utf-8"))
    assert strongest_hertz(found[0]) == pytest.approx([2000], abs=20)


def test_lost_audio_does_not_cost_the_report(folder: Path) -> None:
    for path in folder.glob("*.wav"):
        path.unlink()
    assert run(folder, "--out", str(folder / "out")) == 0
    assert "<audio" not in (folder / "out/report.html").read_text(encoding="utf-8")


def test_table_of_a_large_corpus_is_cut_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "TABLE_BYTES", 100)
    assert run(folder, "--out", str(folder / "out")) == 0
    text = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "1 utterances with the most errors" in text


def test_second_system(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.jsonl").write_text(
        "".join(json.dumps({"id": f"u{i}", "text": "wrong"}) + "\n" for i in range(1, 5)),
        encoding="utf-8",
    )
    out = folder / "out"
    assert run(folder, "--against", str(folder / "other.jsonl"), "--out", str(out)) == 0
    comparison = report_of(out)["comparison"]
    assert comparison["test"] == "mapsswe"
    assert comparison["wer_difference"] < 0
    assert 0 <= comparison["p_value"] <= 1
    assert len(comparison["ci95"]) == 2
    assert "against" in capsys.readouterr().out
    rows = json.loads(Page((out / "report.html").read_text(encoding="utf-8")).scripts[0])
    assert all("b" in row for row in rows)


def test_section_in_results(folder: Path) -> None:
    path = folder / "RESULTS.md"
    for _ in range(2):
        assert run(folder, "--results", str(path), "--title", "test") == 0
    text = path.read_text(encoding="utf-8")
    assert text.count("## test") == 1
    for part in (
        "WER: **",
        "95 % interval",
        "normalizer: multilingual",
        "command: `speechmm score",
    ):
        assert part in text
    assert "- commit: " in text
    assert "- date: 20" in text


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--title", "x"], "--results and --title: only one is given"),
        (["--normalizer", "basik"], "--normalizer: .*verbatim"),
        (["--agianst", "x"], "--against"),
        (["--against", "nowhere.trn"], "nowhere.trn: not found"),
        (["--out", "{folder}/hyp.jsonl/out"], "hyp.jsonl/out.*cannot be written"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    more: list[str], match: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, *(part.format(folder=folder) for part in more)) == 2
    captured = capsys.readouterr()
    assert re.search(match, captured.err), captured.err
    assert len(captured.err.splitlines()) == 1


def test_broken_file_beside_the_transcripts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "hyp.jsonl.meta.json").write_text("{", encoding="utf-8")
    assert run(folder) == 2
    assert "hyp.jsonl.meta.json: cannot be read" in capsys.readouterr().err


def test_all_right_says_what_resampling_cannot(folder: Path) -> None:
    assert run(folder, "--out", str(folder / "out"), hyp="ref.jsonl") == 0
    assert report_of(folder / "out")["wer"]["value"] == 0
    assert "rule of three" in (folder / "out/report.html").read_text(encoding="utf-8")

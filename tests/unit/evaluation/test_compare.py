"""``speechmm compare``."""

import json
import random
import re
from pathlib import Path

import pytest

from speechmm.cli.main import main

NASTY = "<b>x|y"
SYSTEMS = {
    "good": ["one two three", "four five six", "seven eight"],
    "bad": ["one too three", "four six", "seven"],
    NASTY: ["one two three", "four five", "seven eight"],
}


@pytest.fixture
def reports(tmp_path: Path) -> list[str]:
    """Three systems on forty utterances."""
    folders = []
    for name, texts in SYSTEMS.items():
        said = SYSTEMS["good"] * 14
        for file, rows in (("ref", said), ("hyp", texts * 14)):
            lines = "".join(f"{text} (u{number})\n" for number, text in enumerate(rows))
            (tmp_path / f"{file}.trn").write_text(lines, encoding="utf-8")
        out = tmp_path / name
        files = [str(tmp_path / "hyp.trn"), str(tmp_path / "ref.trn")]
        assert main(["score", *files, "--out", str(out)]) == 0
        folders.append(str(out))
    return folders


def test_a_table_of_three(reports: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["compare", reports[1], f"{reports[0]}/report.json", reports[2]]) == 0
    lines = capsys.readouterr().out.splitlines()
    bad, good, nasty = ([cell.strip() for cell in line.split(" | ")] for line in lines[2:5])
    assert bad[0] == "| bad" and bad[1] == "37.50" and bad[8] == ""
    assert good[:2] == ["| good", "0.00"]
    assert re.fullmatch(r"-37\.50 \(-3[89]\.\d\d to -3[56]\.\d\d\)", good[8])
    assert float(good[9]) < 0.001
    assert nasty[0] == "| <b>x\\|y"
    assert "MAPSSWE" in lines[-1]


def test_pages_and_files(reports: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "table.html"
    assert main(["compare", *reports, "--out", str(out)]) == 0
    text = out.read_text("utf-8")
    assert "&lt;b&gt;x|y" in text and "<b>x" not in text
    assert text.count("<tr>") == 1 + 3
    assert main(["compare", *reports, "--out", str(tmp_path / "table.md")]) == 0
    assert (tmp_path / "table.md").read_text("utf-8").startswith("| system | WER % |")


def test_a_section_of_results(reports: list[str], tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    command = ["compare", *reports[:2], "--results", str(path), "--title", "two systems"]
    assert main(command) == 0
    text = path.read_text("utf-8")
    assert "## two systems" in text and "| good | 0.00 |" in text
    assert "- command: `speechmm compare " in text
    assert main(command) == 0
    assert path.read_text("utf-8") == text


def test_one_name_twice_is_told_apart(
    reports: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "good").parent.mkdir()
    Path(reports[1]).rename(tmp_path / "run" / "good")
    capsys.readouterr()
    assert main(["compare", reports[0], str(tmp_path / "run" / "good")]) == 0
    assert "| run/good |" in capsys.readouterr().out


def test_mistakes(reports: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "nowhere")]) == 2
    assert "expected a report" in capsys.readouterr().err
    files = [str(tmp_path / "hyp.trn"), str(tmp_path / "ref.trn")]
    assert main(["score", *files, "--normalizer", "english", "--out", str(tmp_path / "e")]) == 0
    capsys.readouterr()
    assert main(["compare", reports[0], str(tmp_path / "e")]) == 2
    assert "scored with the normalizer english" in capsys.readouterr().err


def test_a_report_of_an_earlier_version_is_read(
    reports: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(reports[1]) / "report.json"
    report = json.loads(path.read_text("utf-8"))
    old = {key: report[key] for key in ("cer", "normalizer", "utterances")}
    path.write_text(json.dumps({**old, "wer": {**report["wer"], "ci95": None}}), "utf-8")
    capsys.readouterr()
    assert main(["compare", *reports[:2]]) == 0
    cells = capsys.readouterr().out.splitlines()[3].split(" | ")
    assert cells[:3] == ["| bad", "37.50", ""]


def test_intervals_by_speaker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speakers = [f"s{number % 6}" for number in range(60)]
    rows = [
        {"id": f"u{number}", "text": f"w{number} x{number}", "speaker": speaker}
        for number, speaker in enumerate(speakers)
    ]
    wrong = [{**row, "text": "no"} if row["speaker"] == "s1" else row for row in rows]
    for name, texts in (("ref", rows), ("good", rows), ("bad", wrong)):
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    path = {name: str(tmp_path / f"{name}.jsonl") for name in ("ref", "good", "bad")}
    out = {name: str(tmp_path / name) for name in ("good", "bad")}
    results = ("--results", str(tmp_path / "RESULTS.md"), "--title", "bad")
    assert main(["score", path["good"], path["ref"], "--out", out["good"]]) == 0
    arguments = ["--against", path["good"], "--out", out["bad"], *results]
    assert main(["score", path["bad"], path["ref"], *arguments]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"by speaker \(6 speakers\): WER 0\.00 to [345]\d\.\d\d, CER 0\.00 to", shown)
    assert re.search(r"points \(95 % interval .* \(by speaker 0\.00 to [345]", shown)
    assert "(by speaker 0.00 to" in (tmp_path / "RESULTS.md").read_text("utf-8")
    report = json.loads((tmp_path / "bad" / "report.json").read_text("utf-8"))
    assert report["utterance_speakers"]["u7"] == "s1"
    for row in (report["wer"], report["cer"], report["ser"], report["comparison"]):
        low, high = row["ci95_speakers"]
        assert low == 0.0 and high > row["ci95"][1]
    assert main(["compare", out["good"], out["bad"]]) == 0
    head, _, good, bad = capsys.readouterr().out.splitlines()[:4]
    assert head.endswith("| WER % by speaker | against the first, by speaker |")
    assert good.endswith("| 0.00 to 0.00 |  |")
    assert re.search(r"\| 0\.00 to [345]\d\.\d\d \| \+0\.00 to \+[345]\d\.\d\d \|$", bad)


def test_translations_have_columns_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(0)
    said = [" ".join(draw.choices("abcdefgh", k=9)) for _ in range(30)]
    texts = {
        "ref": said,
        "good": [text if number % 5 else "h h" for number, text in enumerate(said)],
        "bad": [text if number % 2 else "h h" for number, text in enumerate(said)],
    }
    for name, lines in texts.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    for name, task in (("good", "translate"), ("bad", "translate"), ("words", "asr")):
        files = [str(tmp_path / f"{one}.txt") for one in (name.replace("words", "good"), "ref")]
        assert main(["score", *files, "--task", task, "--out", str(tmp_path / name)]) == 0
    found = json.loads((tmp_path / "good" / "report.json").read_text())["translation"]
    capsys.readouterr()
    assert main(["compare", *(str(tmp_path / name) for name in ("bad", "good", "words"))]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()[:5]
    assert head.endswith("| chrF2, 95 % interval | chrF2 against the first |")
    first, second, words = (row.strip("|").split("|")[-4:] for row in rows)
    low, high = found["bleu"]["ci95"]
    assert second[0].strip() == f"{found['bleu']['score']:.1f} ({low:.1f} to {high:.1f})"
    assert first[1].strip() == first[3].strip() == ""
    for cell in (second[1], second[3]):
        difference, low, high = map(float, re.findall(r"[+-]\d+\.\d", cell))
        assert 0 < low < difference < high
    assert not "".join(words).strip()
    page = tmp_path / "page.html"
    reports = [str(tmp_path / name) for name in ("bad", "good")]
    report = tmp_path / "bad" / "report.json"
    report.write_text(report.read_text().replace('"score"', '"scores"'))  # not what it should be
    assert main(["compare", *reports, "--out", str(page)]) == 0
    assert page.read_text().count("BLEU against the first") == 1

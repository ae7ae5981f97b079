"""``speechmm compare``."""

import json
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

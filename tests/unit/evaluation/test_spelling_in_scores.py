"""What scores leave out when they compare words, and texts without spaces between words."""

import json
from pathlib import Path

import pytest

from speechmm.cli.main import main
from speechmm.evaluation.scoring import score_files


def score(folder: Path, hypothesis: str, reference: str, *more: str) -> dict:
    (folder / "h.txt").write_text(hypothesis, "utf-8")
    (folder / "r.txt").write_text(reference, "utf-8")
    files = [str(folder / "h.txt"), str(folder / "r.txt")]
    assert main(["score", *files, "--out", str(folder / "out"), *more]) == 0
    return json.loads((folder / "out" / "report.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("hypothesis", "reference", "respelled"),
    [
        ("in massen\nder λόγοσ", "In Maßen.\nDer ΛΌΓΟΣ!", 2),
        ("istanbul", "İstanbul", 0),
        ("مرحبا بكم", "مرحبـــا بكم", 0),
        ("ג'ורג' בא צה\"ל", "ג׳ורג׳ בא צה״ל", 0),
        ("col•lecció 34", "col·lecció ٣٤", 1),
        ("o'zbek o‘zbek", "oʻzbek oʻzbek", 2),
        ("میروم", "می\u200cروم", 1),
    ],
)
def test_differences_of_typing_are_no_errors(
    tmp_path: Path, capsys, hypothesis: str, reference: str, *, respelled: int
) -> None:
    report = score(tmp_path, hypothesis, reference)
    assert report["wer"]["value"] == report["cer"]["value"] == 0
    assert report["respelled_words"] == respelled
    assert ("typed otherwise" in capsys.readouterr().out) == (respelled > 0)
    for name in ("report.md", "report.html"):
        assert ("typed otherwise" in (tmp_path / "out" / name).read_text("utf-8")) == (
            respelled > 0
        )
    # What is written is spelled as the reference, so that other tools count the same errors.
    again = score_files(tmp_path / "out" / "hyp.trn", tmp_path / "out" / "ref.trn", "verbatim")
    assert again.hypotheses == again.references


def test_spelling_counts_elsewhere(tmp_path: Path) -> None:
    assert score(tmp_path, "in massen", "in maßen", "--normalizer", "verbatim")["wer"]["value"] > 0
    assert score(tmp_path, "ilik su", "ılık su")["wer"]["substitutions"] == 1
    report = score(tmp_path, "ılık su", "ILIK SU", "--normalizer", "turkish")
    assert report["wer"]["value"] == 0 and "turkish" not in report["other_normalizers"]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "errors", "characters"),
    [
        ("我们今天去图书管\n他 在 家", "我们今天去图书馆\n他在家", 1, 11),
        ("วันนี้ อากาศ ดี", "วันนี้อากาศ ดี", 0, 13),
        ("きょうは、いい天気", "きょうはいい天気", 0, 8),
    ],
)
def test_scripts_without_spaces_are_scored_by_their_characters(
    tmp_path: Path, capsys, hypothesis: str, reference: str, *, errors: int, characters: int
) -> None:
    report = score(tmp_path, hypothesis, reference)
    assert report["cer"]["reference_words"] == characters
    assert round(report["cer"]["value"] * characters) == errors
    assert report["unspaced_share"] == 1
    assert "read the CER" in capsys.readouterr().out


def test_texts_that_lack_their_spaces_are_told(tmp_path: Path, capsys) -> None:
    score(tmp_path, "turnontheradiointhegarden", "turnontheradiointhegardenplease")
    assert "a word has 31 letters" in capsys.readouterr().out
    score(tmp_path, "turn on", "turn on")
    assert "read the CER" not in capsys.readouterr().out

"""What is recognised where an stm says that nothing is scored does not count."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from speechmm.cli.main import main
from speechmm.evaluation.error_rate import total_counts
from speechmm.evaluation.scoring import other_rates, score_files

STM = """all 1 a 0.000 1.000 <o> ignore_time_segment_in_scoring
all 1 a 1.000 2.000 <o> five
rec 1 a 0.000 2.000 <o> one two
rec 1 a 2.000 4.000 <o> IGNORE_TIME_SEGMENT_IN_SCORING
rec 1 b 4.000 6.000 <o> three four
"""
WORDS = {  # start, duration, word; the middle decides
    "all": [(0.5, 0.2, "hum")],
    "rec": [
        (0.1, 0.4, "one"),
        (1.0, 0.4, "two"),
        (1.7, 0.5, "ends"),
        (1.9, 0.3, "edge"),
        (2.5, 0.4, "noise"),
        (3.85, 0.28, "late"),
        (3.9, 0.3, "three"),
        (5.0, 0.4, "four"),
    ],
}
CTM = "".join(
    f"{id} 1 {start} {duration} {word}\n"
    for id, words in WORDS.items()
    for start, duration, word in words
)
SCLITE = shutil.which("sctk") or shutil.which("sclite")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ref.stm").write_text(STM, encoding="utf-8")
    (tmp_path / "hyp.ctm").write_text(CTM, encoding="utf-8")
    with (tmp_path / "hyp.jsonl").open("w", encoding="utf-8") as file:
        for id, rows in WORDS.items():
            words = [
                {"word": word, "start": start, "end": start + duration, "confidence": 0.5}
                for start, duration, word in rows
            ]
            text = " ".join(word for _, _, word in rows)
            file.write(json.dumps({"id": id, "text": text, "words": words}) + "\n")
    (tmp_path / "hyp.trn").write_text(
        "".join(f"{' '.join(row[2] for row in rows)} ({id})\n" for id, rows in WORDS.items()),
        encoding="utf-8",
    )
    return tmp_path


@pytest.mark.parametrize("name", ["hyp.ctm", "hyp.jsonl"])
def test_words_in_such_a_part_are_left_out(folder: Path, name: str) -> None:
    scored = score_files(folder / name, folder / "ref.stm", "basic")
    found = dict(zip(scored.ids, scored.hypotheses, strict=True))
    assert found == {"rec": "one two ends three four", "all": ""}
    assert (scored.unscored, scored.untimed) == (4, ())
    counts = total_counts(scored.words)
    assert (counts.insertions, counts.deletions, counts.hits) == (1, 1, 4)
    rec = scored.sources[scored.ids.index("rec")]
    assert len(rec.word_times) == 5
    assert len(rec.word_confidences) == (5 if name == "hyp.jsonl" else 0)
    rates = other_rates(folder / name, folder / "ref.stm", "basic")
    assert rates["verbatim"]["wer"] == pytest.approx(2 / 5)


def test_without_word_times_it_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = score_files(folder / "hyp.trn", folder / "ref.stm", "basic")
    assert total_counts(scored.words).insertions == 4
    assert (scored.unscored, scored.untimed) == (0, ("all", "rec"))
    assert "2 with parts that" in caplog.text
    assert "have no word times (for example all)" in caplog.text
    assert main(["score", str(folder / "hyp.trn"), str(folder / "ref.stm")]) == 0
    assert "parts that are not scored: 2; words recognised there" in capsys.readouterr().out


def test_the_report_counts_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(folder / "hyp.ctm"), str(folder / "ref.stm")]
    assert main(["score", *files, "--out", str(folder / "out")]) == 0
    report = json.loads((folder / "out/report.json").read_text(encoding="utf-8"))
    assert (report["unscored_words"], report["untimed_hypotheses"]) == (4, [])
    assert "the reference scores nothing: 4" in capsys.readouterr().out


@pytest.mark.skipif(SCLITE is None, reason="sclite is not installed")
def test_sclite_leaves_out_the_same_words(folder: Path) -> None:
    assert SCLITE is not None
    start = [SCLITE, "sclite"] if SCLITE.endswith("sctk") else [SCLITE]
    command = [*start, "-r", "ref.stm", "stm", "-h", "hyp.ctm", "ctm", "-o", "rsum", "stdout"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout
    found = re.search(r"\| Sum\s*\|([\d\s|]+)\|", out)
    assert found is not None, out
    _, words, hits, subs, dels, ins, *_ = (int(n) for n in re.findall(r"\d+", found[1]))
    counts = total_counts(score_files(folder / "hyp.ctm", folder / "ref.stm", "basic").words)
    assert (words, hits, subs, dels, ins) == (
        counts.reference_words,
        counts.hits,
        counts.substitutions,
        counts.deletions,
        counts.insertions,
    )

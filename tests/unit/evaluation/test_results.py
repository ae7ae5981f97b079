"""RESULTS.md: one section a title, replaced, never doubled."""

from pathlib import Path

import pytest

from speechmm.errors import ConfigError
from speechmm.evaluation import results
from speechmm.evaluation.results import write_results


def test_sections_are_added_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write_results(path, "test (greedy)", ["- WER: 1 %"])
    write_results(path, "dev", [r"- WER: \1 2 %"])
    write_results(path, "test (greedy)", ["- WER: 3 %"])
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Results")
    assert text.count("## test (greedy)") == text.count("## dev") == 1
    assert "WER: 3 %" in text
    assert r"WER: \1 2 %" in text
    assert "WER: 1 %" not in text
    assert text.index("test (greedy)") < text.index("## dev")


def test_the_same_result_keeps_its_date_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write_results(path, "dev", ["- WER: 1 %"])
    before = path.read_bytes(), path.stat().st_mtime_ns
    old = path.read_text(encoding="utf-8").replace("- date: 2", "- date: 1")
    write_results(path, "dev", ["- WER: 1 %"])
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    path.write_text(old, encoding="utf-8")
    write_results(path, "dev", ["- WER: 1 %"])
    assert path.read_text(encoding="utf-8") == old


def test_what_others_wrote_stays(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Mine\n\nNotes.\n", encoding="utf-8")
    write_results(path, "dev", ["- WER: 1 %"])
    assert path.read_text(encoding="utf-8").startswith("# Mine\n\nNotes.\n\n<!-- begin dev -->")
    assert results.HEADER not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("title", ["", "a\nb", "a --> b"])
def test_titles_that_cannot_mark_a_section(title: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--title: found"):
        write_results(tmp_path / "RESULTS.md", title, [])

"""The form of the pages: short lines, one finding an experiment, small pictures."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TYPED = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "docs/[de]*/*.md", "recipes/*/README.md")
    for page in ROOT.glob(pattern)
)
EXPERIMENTS = sorted((ROOT / "docs" / "experiments").glob("2*.md"))
LONGEST_LINE = 108
MOST_COLUMNS = 5
MOST_README_LINES = 130
LARGEST_PICTURE = 150_000  # bytes


def prose(page: Path) -> list[str]:
    """The lines of a page that are neither code nor a table."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return [line for line in text.splitlines() if not line.startswith("|")]


@pytest.mark.parametrize("page", TYPED, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_short_enough_to_read_in_a_terminal(page: Path):
    for line in prose(page):
        assert len(line) <= LONGEST_LINE, line


@pytest.mark.parametrize("page", EXPERIMENTS, ids=lambda page: page.stem)
def test_an_experiment_states_its_finding_and_has_narrow_tables(page: Path):
    text = page.read_text(encoding="utf-8")
    assert re.match(r"\d{4}-\d\d-\d\d-[a-z0-9-]+$", page.stem)
    assert re.match(r"# [^\n]+\n\n\*\*Finding\.\*\* ", text)
    for separator in re.findall(r"^\|(?:-+\|)+$", text, re.MULTILINE):
        assert separator.count("|") - 1 <= MOST_COLUMNS, page.name


def test_every_experiment_and_decision_is_in_its_index():
    for folder in ("experiments", "decisions"):
        index = (ROOT / "docs" / folder / "README.md").read_text(encoding="utf-8")
        for page in (ROOT / "docs" / folder).glob("*.md"):
            assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_the_readme_is_one_page_with_two_pictures():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_README_LINES
    assert len(re.findall(r"!\[[^]]+\]\(docs/images/[a-z]+\.png\)", text)) == 2


def test_pictures_are_small():
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < LARGEST_PICTURE, picture.name

"""docs/interface.md is a contract: every command, flag, choice and corpus it names exists."""

import re
from pathlib import Path

import pytest

from speechmm.cli.main import COMMANDS, TRAINING_COMMANDS, main
from speechmm.data.corpora.catalog import CORPORA

ROOT = Path(__file__).resolve().parents[2]
WHOLE = (ROOT / "docs" / "interface.md").read_text(encoding="utf-8")
PAGE = WHOLE.partition("\n## Old names\n")[0]
NAMED = re.findall(r"^\| \[`([\w-]+)`\]\(cli/([\w-]+)\.md\) \|", PAGE, re.MULTILINE)
CHOICES = re.findall(r"^\| `([\w-]+) (--[\w-]+)` \| (.+) \|$", PAGE, re.MULTILINE)


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([command, "--help"]) == 0
    return capsys.readouterr().out


def test_every_command_is_on_the_page_and_leads_to_its_reference():
    assert all(name == link for name, link in NAMED)
    assert {name for name, _ in NAMED} == set(COMMANDS) - (set(TRAINING_COMMANDS) - {"fit"})


@pytest.mark.parametrize(("command", "flag", "values"), CHOICES)
def test_the_choices_of_a_flag_are_those_of_the_help(command, flag, values, capsys):
    shown = re.search(rf"{flag} {{([^}}]+)}}", help_of(command, capsys))
    assert shown is not None, f"{command} {flag}"
    assert re.findall(r"`(\w+)`", values) == "".join(shown[1].split()).split(",")


def test_there_are_choices():
    assert len(CHOICES) >= 4


def test_every_flag_of_the_page_is_in_a_help(capsys):
    shown = "".join(help_of(command, capsys) for command in COMMANDS)
    for flag in re.findall(r"--[a-z][a-z-]+", PAGE):
        assert f"{flag}" in shown, flag


def test_every_corpus_is_on_the_page():
    row = re.search(r"^\| `prepare CORPUS` \| (.+) \|$", PAGE, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[1])) == set(CORPORA)

"""docs/interface.md is a contract: every command and flag it names exists."""

import re
from pathlib import Path

import pytest

from speechmm.cli.main import COMMANDS, TRAINING_COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "interface.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `speechmm ([\w-]+)(.*?)` \|", PAGE, re.MULTILINE)
CORPORA = ["synth", "an4", "fsdd", "yesno", "kerstin", "ljspeech", "librispeech", "folder", "kaldi"]


def help_of(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*command, "--help"]) == 0
    return capsys.readouterr().out


def test_every_command_of_the_page_exists():
    named = {name for name, _ in ROWS}
    assert named <= set(COMMANDS)
    assert set(COMMANDS) - named == set(TRAINING_COMMANDS) - {"fit"}


@pytest.mark.parametrize(("name", "usage"), [row for row in ROWS if row[0] != "fit"])
def test_every_flag_and_choice_of_the_page_is_in_the_help(name, usage, capsys):
    command = [name]
    if name == "prepare" and (corpus := usage.split()[0]).islower():
        command.append(corpus)
    shown = help_of(command, capsys)
    for flag in re.findall(r"--[a-z-]+", usage):
        assert f"{flag} " in shown, flag
    for choices in re.findall(r"--[a-z-]+ ((?:\w+\\\|)+\w+)", usage):
        for choice in choices.split("\\|"):
            assert re.search(rf"\b{choice}\b", shown), choice


def test_every_corpus_of_the_page_can_be_prepared(capsys):
    shown = help_of(["prepare"], capsys)
    for corpus in CORPORA:
        assert f"`{corpus}" in PAGE
        assert re.search(rf"\b{corpus}\b", shown), corpus

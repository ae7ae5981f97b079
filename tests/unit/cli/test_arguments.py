"""The parser of the commands: flags that were renamed work under their old names."""

import pytest

from speechmm.cli.arguments import CommandParser
from speechmm.errors import ConfigError

NOTICE = "speechmm align: --doubt-price is now called --edit-penalty; use that.\n"


@pytest.fixture
def parser() -> CommandParser:
    made = CommandParser("align", description="Align.")
    made.add_argument("inputs", nargs="*")
    made.add_argument("--edit-penalty", type=float, default=6.0)
    made.add_argument("--penalties", type=float, nargs="+")
    made.add_alias("--doubt-price", "--edit-penalty")
    made.add_alias("--prices", "--penalties")
    return made


@pytest.mark.parametrize(
    "typed", [["--doubt-price", "18"], ["--doubt-price=18"], ["a.wav", "--doubt-price", "18"]]
)
def test_an_old_flag_does_what_the_new_one_does_and_names_it_in_one_line(parser, typed, capsys):
    found = parser.parse_args(typed)
    assert found.edit_penalty == 18.0
    assert not hasattr(found, "doubt_price")
    assert capsys.readouterr().err == NOTICE


def test_an_old_flag_may_have_several_values(parser, capsys):
    assert parser.parse_args(["--prices", "4", "6", "8"]).penalties == [4.0, 6.0, 8.0]
    assert "--prices is now called --penalties" in capsys.readouterr().err


def test_new_flags_and_what_follows_two_dashes_are_taken_as_they_are(parser, capsys):
    found = parser.parse_args(["--edit-penalty", "2", "--", "--doubt-price"])
    assert (found.edit_penalty, found.inputs) == (2.0, ["--doubt-price"])
    assert capsys.readouterr().err == ""


def test_a_wrong_value_of_an_old_flag_is_complained_of_under_the_new_name(parser):
    with pytest.raises(ConfigError, match="--edit-penalty: found 'dear'"):
        parser.parse_args(["--doubt-price", "dear"])


def test_the_help_names_the_old_flags_apart(parser):
    usage, _, old = parser.format_help().partition("old names that still work:\n")
    assert old.splitlines()[0] == "  --doubt-price is now --edit-penalty"
    assert "--doubt-price" not in usage


def test_the_help_shows_one_default(parser):
    parser.add_argument("--weight", type=float, help="a weight (default: 0.3)")
    parser.add_argument("--name", help="a name (default: the id)")
    text = parser.format_help()
    assert "a weight (type: float, default: 0.3)\n" in text
    assert "a name (default: the id)\n" in text


def test_a_misspelled_flag_is_answered_with_the_new_names_only(parser):
    with pytest.raises(ConfigError, match=r"did you mean --edit-penalty\?"):
        parser.parse_args(["--edit-penalt", "3"])

"""tools/cli_reference.py: reference pages made from help texts."""

HELP = """\
usage: speechmm thing [--strict] [--format {a,b}] --out PATH
                      INPUT [INPUT ...]

Does a thing | with <files>.

positional arguments:
  INPUT                 an audio file (required,
                        type: Path)

options:
  -h, --help            Show this help message and exit.
  --strict              stop at the first
                        bad input
  --format {a,b}        what to write
  --out PATH            where
  -c FILE, --config FILE
                        settings

Linked arguments:
  data.x --> model.y
"""


def test_a_help_text_is_taken_apart(load_tool):
    parsed = load_tool("cli_reference").parse_help(HELP)
    assert parsed.usage == "speechmm thing [--strict] [--format {a,b}] --out PATH INPUT [INPUT ...]"
    assert parsed.description == "Does a thing | with <files>."
    assert [section.title for section in parsed.sections] == [
        "positional arguments",
        "options",
        "Linked arguments",
    ]
    assert parsed.sections[0].rows == [("INPUT", "an audio file (required, type: Path)")]
    assert ("--strict", "stop at the first bad input") in parsed.sections[1].rows
    assert ("-c, --config FILE", "settings") in parsed.sections[1].rows


def test_text_that_markdown_would_read_is_escaped(load_tool):
    page = load_tool("cli_reference")._render(load_tool("cli_reference").parse_help(HELP))
    assert r"Does a thing \| with \<files>." in page
    assert "| `--format {a,b}` | what to write |" in page
    assert "--help" not in page


def test_old_names_have_a_table_of_their_own(load_tool):
    tool = load_tool("cli_reference")
    page = tool._render(tool.parse_help(f"{HELP}\nold names that still work:\n  --a is now --b\n"))
    assert page.endswith("\n\n| old name, still works | new name |\n|---|---|\n| `--a` | `--b` |\n")


def test_a_long_usage_breaks_between_arguments_only(load_tool):
    tool = load_tool("cli_reference")
    flags = [f"[--flag-{number} SOME VALUES]" for number in range(20)]
    lines = tool._wrap(f"speechmm prepare an4 {' '.join(flags)} --out PATH").splitlines()
    assert len(lines) > 3
    assert all(len(line) <= tool.USAGE_WIDTH for line in lines)
    assert all(line.count("[") == line.count("]") for line in lines)
    assert " ".join(" ".join(lines).split()).endswith("--out PATH")


def test_pages_are_written_and_those_of_commands_that_are_gone_removed(
    load_tool, tmp_path, monkeypatch
):
    tool = load_tool("cli_reference")
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    monkeypatch.setattr(tool, "COMMANDS", {"info": tool.COMMANDS["info"]})
    (tmp_path / "gone.md").write_text("old\n", encoding="utf-8")
    tool.write_pages()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "info.md"]
    assert "speechmm info" in (tmp_path / "info.md").read_text(encoding="utf-8")

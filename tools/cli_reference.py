"""Writes the reference pages of the commands, docs/cli/, from what ``--help`` prints.

Run it after changing a flag or its help: ``python tools/cli_reference.py``. A test compares.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from speechmm.cli.arguments import OLD_NAMES
from speechmm.cli.main import COMMANDS, EPILOG, TRAINING_COMMANDS, main
from speechmm.data.corpora.catalog import CORPORA

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "cli"
NOTE = "\n<!-- made by tools/cli_reference.py from --help: do not edit -->\n"
UNWRAPPED = "100000"  # columns, so that every help text stands on one line
USAGE_WIDTH = 80
COMMON = ("-h, --help", "--version")
NOT_OURS = ("Customize every aspect", "Linked arguments")
"""Sections of ``fit --help_all`` that are left out: Lightning's Trainer, and links."""
SAID_ABOVE = ("-h", "-c", "--print_config", "--ckpt_path", "--help", "--version", "Group ")
"""Rows of ``fit --help_all`` that are left out, as they say nothing or ``--help`` has them."""


_TWICE = re.compile(r"^(-\S+) (\S.*), (-\S+) \2$")
"""``--data.train X, --data.train+ X``, which Python 3.13 writes with one X."""


@dataclass
class Section:
    """One titled list of arguments in a help text."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    """Each argument as it is typed, and what it means."""


@dataclass
class Help:
    """A help text taken apart."""

    usage: str
    description: str
    sections: list[Section]


def write_pages() -> None:
    """Writes every page and removes those of commands that are gone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pages = dict(make_pages())
    for old in set(FOLDER.glob("*.md")) - {FOLDER / name for name in pages}:
        old.unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def make_pages() -> Iterator[tuple[str, str]]:
    """Every page as (file name, text)."""
    yield "README.md", _overview()
    for command in COMMANDS:
        yield f"{command}.md", make_page(command)


def make_page(command: str) -> str:
    """The reference page of one command."""
    text = f"# speechmm {command}\n\n"
    if command in TRAINING_COMMANDS:
        text += f"```text\n{help_of(command)}```\n"
        return text + (_settings() if command == "fit" else "") + NOTE
    text += _render(parse_help(help_of(command)))
    if command == "prepare":
        for corpus in CORPORA:
            text += f"\n## speechmm prepare {corpus}\n\n"
            text += _render(parse_help(help_of("prepare", corpus)))
    return text + NOTE


def help_of(*words: str, flag: str = "--help") -> str:
    """What a command prints for ``--help``, one line a paragraph."""
    printed = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = UNWRAPPED
    try:
        with contextlib.redirect_stdout(printed):
            code = main([*words, flag])
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    if code != 0:
        raise SystemExit(f"speechmm {' '.join(words)} {flag}: exit code {code}; expected 0")
    text = re.sub(r"type: <function .* at 0x\w+>, ", "", printed.getvalue())
    return re.sub(r", known subclasses: [^)]*", "", text)  # whatever happens to be imported


def parse_help(text: str) -> Help:
    """Takes an argparse help text apart: usage, description, titled lists of arguments."""
    usage, _, rest = text.partition("\n\n")
    first = re.search(r"^\S.*:$", rest, re.MULTILINE)
    place = first.start() if first else len(rest)
    return Help(
        usage=" ".join(usage.removeprefix("usage: ").split()),
        description=" ".join(rest[:place].split()),
        sections=parse_sections(rest[place:]),
    )


def parse_sections(text: str) -> list[Section]:
    """The titled lists of arguments; lines further in continue the argument above them."""
    sections: list[Section] = []
    for line in text.splitlines():
        if re.match(r"\S.*:$", line):
            sections.append(Section(line.rstrip(":")))
        elif sections and (found := re.match(r" {2}(\S.*?)(?: {2,}(.*))?$", line)):
            name = _TWICE.sub(r"\1, \3 \2", found[1])
            sections[-1].rows.append((name, found[2] or ""))
        elif sections and sections[-1].rows and line.startswith("   "):
            name, meaning = sections[-1].rows[-1]
            sections[-1].rows[-1] = name, f"{meaning} {line.strip()}".strip()
    return [section for section in sections if section.rows]


def _render(parsed: Help) -> str:
    text = f"{_cell(parsed.description)}\n\n```text\n{_wrap(parsed.usage)}\n```\n"
    old = [section for section in parsed.sections if section.title == OLD_NAMES.rstrip(":")]
    new = [section for section in parsed.sections if section not in old]
    rows = [row for section in new for row in section.rows if row[0] not in COMMON]
    text += f"\n{_table(rows)}" if rows else ""
    return text + "".join(f"\n{_old_names(section)}" for section in old)


def _old_names(section: Section) -> str:
    """The flags that were renamed, old and new."""
    names = [name.split(" is now ") for name, _ in section.rows]
    lines = ["| old name, still works | new name |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{old}` | `{new}` |" for old, new in names), ""])


def _settings() -> str:
    """The settings of a training that are not Lightning's own, by section."""
    _, _, text = help_of("fit", flag="--help_all").partition("\n\n")
    parts = [
        "\n## Settings\n\nFrom `speechmm fit --help_all`, without those of Lightning's Trainer.\n"
    ]
    for section in parse_sections(text):
        rows = [row for row in section.rows if not row[0].endswith(" CONFIG")]
        rows = [row for row in rows if not row[0].startswith(SAID_ABOVE)]
        if rows and not section.title.startswith(NOT_OURS):
            parts.append(f"\n### {_cell(section.title)}\n\n{_table(rows)}")
    return "".join(parts)


def _table(rows: list[tuple[str, str]]) -> str:
    lines = ["| argument | meaning |", "|---|---|"]
    lines += [
        f"| `{name.replace('|', chr(92) + '|')}` | {_cell(meaning)} |" for name, meaning in rows
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text as Markdown that shows it as it is; double backticks stay code."""
    return re.sub(r"([|*<])", r"\\\1", text)


def _wrap(usage: str) -> str:
    """The usage in lines that break between arguments only."""
    whole = re.sub(r"\[[^][]*\]", lambda found: found.group().replace(" ", "\0"), usage)
    whole = re.sub(r"(--\S+) ([A-Z_]+)", "\\1\0\\2", whole)
    head = re.match(r"speechmm [a-z-]+( [a-z0-9]+)?", whole)
    indent = " " * (head.end() + 1 if head else 4)
    lines = textwrap.wrap(
        whole, USAGE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def _overview() -> str:
    lines = ["# Commands\n", "| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`]({name}.md) | {_cell(c.summary)} |" for name, c in COMMANDS.items()]
    codes = re.findall(r"^ {2}(\d) {2}(.*)$", EPILOG, re.MULTILINE)
    lines += ["", "Exit codes:", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in codes]
    return "\n".join(lines) + "\n" + NOTE


if __name__ == "__main__":
    write_pages()

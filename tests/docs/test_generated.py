"""Pages written by tools are what the tools write today: the commands' reference, the tree."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from speechmm.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_for_docs", ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool
    spec.loader.exec_module(tool)
    return tool


def test_the_tree_of_the_docs_is_the_tree():
    tool = load_tool("tree")
    page = tool.PAGE.read_text(encoding="utf-8")
    assert tool.with_tree(page) == page, "run: make docs-reference"


def test_every_command_has_a_reference_page_and_no_other_page_is_there():
    pages = {path.stem for path in (ROOT / "docs" / "cli").glob("*.md")}
    assert pages == {"README", *COMMANDS}, "run: make docs-reference"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_page_of_a_command_is_what_its_help_says(command: str):
    written = (ROOT / "docs" / "cli" / f"{command}.md").read_text(encoding="utf-8")
    assert written == load_tool("cli_reference").make_page(command), "run: make docs-reference"

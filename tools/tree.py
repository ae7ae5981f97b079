"""Writes the tree of files in docs/tree.md, each with the first line of its docstring.

Run it after adding, removing or renaming a file: ``python tools/tree.py``. A test compares.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tree.md"
BEGIN = "<!-- tree: made by tools/tree.py -->\n```\n"
END = "```\n<!-- end of tree -->\n"
FOLDERS = ("speechmm", "tools")
NAME_WIDTH = 26  # characters of a name and its indentation


def tree() -> str:
    """The tree as text: folders first named by their package's docstring, then their files."""
    return "".join(line for folder in FOLDERS for line in _folder_lines(ROOT / folder, 0))


def with_tree(page: str) -> str:
    """The text of the page with its tree up to date."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{PAGE.name}: expected the lines {BEGIN!r} and {END!r}")
    return before + BEGIN + tree() + END + after


def _folder_lines(folder: Path, depth: int) -> list[str]:
    lines = [_line(f"{folder.name}/", folder / "__init__.py", depth)]
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            lines.append(_line(file.name, file, depth + 1))
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        lines += _folder_lines(inner, depth + 1)
    return lines


def _line(name: str, file: Path, depth: int) -> str:
    role = _first_line(file) if file.is_file() else ""
    return f"{'  ' * depth + name:<{NAME_WIDTH}} {role}".rstrip() + "\n"


def _first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "").rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(with_tree(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

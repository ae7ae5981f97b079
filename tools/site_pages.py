"""Adds README, recipes and notebooks to the docs site, which MkDocs builds from ``docs/`` alone.

MkDocs calls the functions named ``on_...``; ``mkdocs.yml`` names this file as its hook. Links that
are right in the repository are rewritten for the site; those to files that are no page of it, such
as sources, become plain text. In the navigation a folder stands for all of its pages.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "recipes/*/*.md")
"""Pages of the repository that are not in docs/, as they stand on the site too."""
_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside docs/ and the notebooks; fills folders into the navigation."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in sorted((ROOT / "docs").rglob("*.ipynb")):
        folder = path.parent.relative_to(ROOT / "docs")
        for name, content in notebook_files(path):
            files.append(File.generated(config, str(folder / name), content=content))
    if config.nav is not None:
        config.nav = fill_navigation(config.nav, [file.src_uri for file in files])
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page for the site."""
    pages = {file.src_uri for file in files}
    return rewrite_links(markdown, page.file.src_uri, pages)


def rewrite_links(markdown: str, page: str, pages: set[str]) -> str:
    """``../recipes/an4/README.md`` in docs/a.md is ``recipes/an4/README.md`` on the site."""
    inside = (ROOT / "docs" / page).exists() or page.startswith("notebooks/")
    here = PurePosixPath("docs", page) if inside else PurePosixPath(page)

    def rewrite(found: re.Match[str]) -> str:
        target, _, anchor = found[3].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        place = normpath(str(here.parent / target)).removeprefix("docs/")
        place = place.removesuffix(".ipynb") + ".md" if place.endswith(".ipynb") else place
        if place not in pages:
            return found[0] if found[1] else found[2]
        link = relpath(place, str(PurePosixPath(page).parent))
        return f"{found[1]}[{found[2]}]({link}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(rewrite, markdown)


def fill_navigation(nav: list[Any], names: list[str]) -> list[Any]:
    """The navigation with ``cli/`` replaced by all pages below it, the README of each first."""
    filled: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            for title, value in entry.items():
                if isinstance(value, list):
                    filled.append({title: fill_navigation(value, names)})
                elif value.endswith("/"):
                    filled.append({title: pages_below(value, names)})
                else:
                    filled.append({title: value})
        elif entry.endswith("/"):
            filled.append({entry.rstrip("/").capitalize(): pages_below(entry, names)})
        else:
            filled.append(entry)
    return filled


def pages_below(folder: str, names: list[str]) -> list[Any]:
    """Pages of a folder, then its folders as sections."""
    below = sorted(
        (name for name in names if name.startswith(folder) and name.endswith(".md")),
        key=lambda name: (not name.endswith("README.md"), name),
    )
    pages: list[Any] = [name for name in below if "/" not in name.removeprefix(folder)]
    inner = sorted(
        {name.removeprefix(folder).partition("/")[0] for name in below if name not in pages}
    )
    return [*pages, *({name: pages_below(f"{folder}{name}/", names)} for name in inner)]


def notebook_files(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """A notebook as a Markdown page and the pictures in its outputs: (name, content)."""
    parts: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(parts)}.png"
                yield name, base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip("\n"):
                parts.append(f"```text\n{text}\n```")
    yield f"{path.stem}.md", "\n\n".join(parts) + "\n"

"""The documentation builds as a site, without a dead link and without the network."""

import importlib.util
import re
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(r"""<(?:script|link|img|iframe)[^>]*?\s(?:src|href)=["']?(https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the site asked for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setattr(socket.socket, "connect", refuse)
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        build(config)
    return folder


@pytest.mark.filterwarnings("default")  # of MkDocs's own
def test_every_page_is_on_the_site(site: Path):
    pages = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    sources = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb")]
    names = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in sources}
    names |= {p.relative_to(ROOT).with_suffix("").as_posix() for p in ROOT.glob("recipes/*/*.md")}
    assert {name.replace("README", "index") for name in names} <= pages


@pytest.mark.filterwarnings("default")
def test_no_page_loads_anything_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        found = LOADED.search(page.read_text(encoding="utf-8"))
        assert found is None, f"{page.relative_to(site)}: {found and found.group()}"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "tools" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "written", "shown"),
    [
        (
            "decisions/README.md",
            "[a](../../recipes/x/README.md#b)",
            "[a](../recipes/x/README.md#b)",
        ),
        ("recipes/x/README.md", "[a](../../docs/alignment.md)", "[a](../../alignment.md)"),
        ("README.md", "![a](docs/images/a.png)", "![a](images/a.png)"),
        ("README.md", "[`code`](speechmm/models/a.py)", "`code`"),
        ("README.md", "[a](https://example.org/)", "[a](https://example.org/)"),
        ("README.md", "[n](docs/notebooks/n.ipynb)", "[n](notebooks/n.md)"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(hook, page, written, shown):
    pages = {"recipes/x/README.md", "alignment.md", "images/a.png", "notebooks/n.md"}
    assert hook.rewrite_links(written, page, pages) == shown

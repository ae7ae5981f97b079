"""The notebooks run from the first cell to the last, on less data and for less time."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.timeout(600)  # six commands, each in a process of its own
@pytest.mark.filterwarnings("default")  # of Jupyter's own
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SENTENCES", "24")
    monkeypatch.setenv("MAX_TIME", "00:00:00:05")
    cells = nbformat.read(notebook, as_version=4)
    client = NotebookClient(cells, timeout=500, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert (tmp_path / "scores" / "alignment.html").is_file()
    assert list((tmp_path / "pictures").glob("*.png"))


def test_there_are_notebooks_and_they_show_their_outputs():
    assert NOTEBOOKS
    for notebook in NOTEBOOKS:
        cells = nbformat.read(notebook, as_version=4).cells
        assert any("image/png" in str(cell.get("outputs")) for cell in cells), notebook.name

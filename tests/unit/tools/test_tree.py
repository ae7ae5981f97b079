"""tools/tree.py: the tree of the sources in docs/tree.md."""

import pytest


def test_every_file_stands_in_the_tree_with_the_first_line_of_its_docstring(
    load_tool, tmp_path, monkeypatch
):
    tool = load_tool("tree")
    for name, role in {"toolkit/__init__.py": "A toolkit.", "toolkit/b.py": "Does b"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'"""{role}\n\nMore.\n"""\n', encoding="utf-8")
    (tmp_path / "scripts").mkdir()
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "FOLDERS", ("toolkit", "scripts"))
    lines = [line.split(maxsplit=1) for line in tool.tree().splitlines()]
    assert lines == [["toolkit/", "A toolkit"], ["b.py", "Does b"], ["scripts/"]]


def test_the_tree_of_a_page_is_replaced_and_the_rest_stays(load_tool):
    tool = load_tool("tree")
    page = f"before\n{tool.BEGIN}old\n{tool.END}after\n"
    written = tool.with_tree(page)
    assert written.startswith("before\n")
    assert written.endswith(f"{tool.END}after\n")
    assert "tree.py" in written
    assert "old\n" not in written
    assert tool.with_tree(written) == written


def test_a_page_without_the_marks_is_refused(load_tool):
    with pytest.raises(SystemExit, match="expected the lines"):
        load_tool("tree").with_tree("no tree here\n")

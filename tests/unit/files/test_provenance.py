"""The record beside a file of transcripts, and what it says of the code and the machine."""

import re
from pathlib import Path

import pytest

from speechmm.errors import ManifestError
from speechmm.files.provenance import (
    RunMeta,
    code_commit,
    meta_path,
    peak_memory_bytes,
    read_meta,
    write_meta,
)


def test_what_is_written_beside_transcripts_is_read_there(tmp_path: Path) -> None:
    transcripts = tmp_path / "new" / "hyp.jsonl"
    meta: RunMeta = {"model": "exp/bündle", "decoding": {"beam": 4}, "rtf": None}
    write_meta(transcripts, meta)
    assert meta_path(transcripts).name == "hyp.jsonl.meta.json"
    assert read_meta(transcripts) == meta
    assert read_meta(tmp_path / "other.jsonl") == {}


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "hyp.jsonl.meta.json").write_text(content)
    with pytest.raises(ManifestError, match=r"hyp\.jsonl\.meta\.json: cannot be read"):
        read_meta(tmp_path / "hyp.jsonl")


def test_commit_and_memory() -> None:
    commit, peak = code_commit(), peak_memory_bytes()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
    assert peak is None or peak > 10e6

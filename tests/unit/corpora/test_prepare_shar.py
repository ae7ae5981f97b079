"""``speechmm prepare --shar``: archives beside the manifests, and the commands that read them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from speechmm.cli.main import main
from speechmm.data.manifest import cut_text, read_cuts
from speechmm.data.waveforms import load_waveform

ALONE = ("--dev", "0", "--test", "0")


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def corpus(tmp_path, record) -> Path:
    root = tmp_path / "my corpus"
    for i in range(10):
        record(root / f"u{i}.flac", 0.3 + 0.02 * i)
        (root / f"u{i}.txt").write_text(f"text {i}")
    return root


def files_in(out: Path) -> dict[str, int]:
    return {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns
        for path in out.rglob("*")
        if path.is_file()
    }


def shar_files(split: str, archives: int) -> set[str]:
    return {
        f"{split}.shar/{name}"
        for number in range(archives)
        for name in (f"cuts.{number:06d}.jsonl.gz", f"recording.{number:06d}.tar")
    }


def test_the_splits_are_also_archives(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("prepare", "folder", corpus, out, "--shar", 3) == 0
    plain = {"prepare.json", *(f"{split}.jsonl.gz" for split in ("train", "dev", "test"))}
    wanted = shar_files("train", 3) | shar_files("dev", 1) | shar_files("test", 1) | plain
    before = files_in(out)
    assert before.keys() == wanted
    for split in ("train", "dev", "test"):
        cuts = {cut.id: cut for cut in read_cuts(out / f"{split}.jsonl.gz")}
        found = list(read_cuts(out / f"{split}.shar"))
        assert sorted(cut.id for cut in found) == sorted(cuts)
        for cut in found:
            assert torch.equal(load_waveform(cut, 16000), load_waveform(cuts[cut.id], 16000))
            assert cut_text(cut) == cut_text(cuts[cut.id])
    capsys.readouterr()
    assert call("prepare", "folder", corpus, out, "--shar", 3) == 0  # left alone
    assert files_in(out) == before
    assert call("prepare", "folder", corpus, out, "--shar", 8) == 0  # fewer, larger ones
    one_each = shar_files("train", 1) | shar_files("dev", 1) | shar_files("test", 1)
    assert files_in(out).keys() == one_each | plain
    assert call("prepare", "folder", corpus, out) == 0  # none any more
    assert files_in(out).keys() == plain
    assert not list(out.glob("*.shar"))


@pytest.mark.parametrize("damage", ["cut off", "gone"])
def test_an_archive_that_is_not_whole_is_made_again(damage, corpus, tmp_path):
    out = tmp_path / "out"
    command = ("prepare", "folder", corpus, out, "--shar", 3)
    call(*command)
    tar = out / "train.shar" / "recording.000001.tar"
    content = tar.read_bytes()
    if damage == "gone":
        tar.unlink()
    else:
        tar.write_bytes(content[:-10])
    assert call(*command) == 0
    assert tar.read_bytes() == content


def test_what_cannot_be_decoded_is_in_neither(corpus, tmp_path, capsys):
    path = corpus / "u4.flac"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    out = tmp_path / "out"
    command = ("prepare", "folder", corpus, out, *ALONE, "--check", "header", "--shar", 4)
    for _ in range(2):  # a rerun says so again
        assert call(*command) == 3
        captured = capsys.readouterr()
        assert captured.out.splitlines()[1].split()[:2] == ["train", "9"]
        assert "skipped: u4: " in captured.err
        assert captured.err.splitlines()[-1] == "1 of 10 utterances skipped"
    for name in ("train.jsonl.gz", "train.shar"):
        assert sorted(cut.id for cut in read_cuts(out / name)) == [
            f"u{i}" for i in range(10) if i != 4
        ]
    assert call(*command, "--strict") == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1


def test_other_folders_are_not_replaced(corpus, tmp_path, capsys):
    own = tmp_path / "out" / "train.shar" / "notes.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert call("prepare", "folder", corpus, tmp_path / "out", *ALONE, "--shar", 3) == 2
    assert "is there and no older result" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["train.shar", "notes.txt"]
    record = {"outputs": {"train.shar/notes.txt": 4, "../x.shar/a": 1, "mine.shar/a": 1}}
    (tmp_path / "out" / "prepare.json").write_text(json.dumps(record))
    assert call("prepare", "folder", corpus, tmp_path / "out", *ALONE) == 0
    assert own.read_text() == "mine"


@pytest.mark.parametrize("size", ["0", "-1", "x", "1.5"])
def test_sizes_are_positive(size, corpus, tmp_path, capsys):
    assert call("prepare", "folder", corpus, tmp_path / "out", "--shar", size) == 2
    error = capsys.readouterr().err
    assert "--shar" in error
    assert error.count("\n") == 1


def test_commands_read_the_folder(corpus, tmp_path, capsys):
    """As they read the manifest."""
    out = tmp_path / "out"
    call("prepare", "folder", corpus, out, *ALONE, "--shar", 4)
    shar, manifest = out / "train.shar", out / "train.jsonl.gz"
    capsys.readouterr()

    def facts(path: Path) -> dict[str, Any]:
        assert call("info", path, "--json") == 0
        return {**json.loads(capsys.readouterr().out), "path": ""}

    assert facts(shar) == facts(manifest)
    files = [tmp_path / name for name in ("one.json", "two.json")]
    for path, file in zip((shar, manifest), files, strict=True):
        assert call("tokenizer", path, "--kind", "char", "--out", file) == 0
    pieces = [json.loads(file.read_text())["pieces"] for file in files]
    assert pieces[0] == pieces[1]
    capsys.readouterr()
    assert call("tokenizer", shar, "--kind", "char", "--out", files[0]) == 0
    assert "up to date" in capsys.readouterr().err
    os.utime(shar / "cuts.000001.jsonl.gz", ns=(1, 1))
    assert call("tokenizer", shar, "--kind", "char", "--out", files[0]) == 0
    assert "up to date" not in capsys.readouterr().err
    arpa = [tmp_path / name for name in ("one.arpa", "two.arpa")]
    for path, file in zip((shar, manifest), arpa, strict=True):
        assert call("ngram", path, "--out", file) == 0
    assert arpa[0].read_bytes() == arpa[1].read_bytes()


def test_a_store_of_features(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    call("prepare", "folder", corpus, out, *ALONE, "--shar", 4)
    stores = [tmp_path / name for name in ("from-shar", "from-files")]
    for path, store in zip(("train.shar", "train.jsonl.gz"), stores, strict=True):
        assert call("features", out / path, "--out", store) == 0
    cuts = [{cut.id: cut for cut in read_cuts(store / "train.jsonl.gz")} for store in stores]
    assert cuts[0].keys() == cuts[1].keys()
    for name, cut in cuts[0].items():
        left, right = (torch.from_numpy(one.load_features()) for one in (cut, cuts[1][name]))
        assert torch.equal(left, right)
        assert len(load_waveform(cut.perturb_speed(1.1).drop_features(), 16000))
    capsys.readouterr()
    assert call("features", out / "train.shar", "--out", stores[0]) == 0
    assert "up to date" in capsys.readouterr().err
    os.utime(out / "train.shar" / "recording.000001.tar", ns=(1, 1))
    assert call("features", out / "train.shar", "--out", stores[0]) == 0
    assert "up to date" not in capsys.readouterr().err
    assert call("features", out / "train.shar", "--out", out) == 2
    assert "would overwrite it" in capsys.readouterr().err


def test_scores(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    call("prepare", "folder", corpus, out, *ALONE, "--shar", 4)
    (tmp_path / "heard.trn").write_text("".join(f"text {i % 7} (u{i})\n" for i in range(10)))
    found = []
    for name in ("train.shar", "train.jsonl.gz"):
        assert call("score", tmp_path / "heard.trn", out / name, "--out", tmp_path / name[:7]) == 0
        report = json.loads((tmp_path / name[:7] / "report.json").read_text())
        del report["wer"]["ci95"]  # drawn in another order
        found.append((report["wer"], report["utterances"], report["matched_by"]))
    assert found[0] == found[1]
    assert found[0][0]["substitutions"] == 3

"""``speechmm features`` and ``speechmm tokenizer`` as a user runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lhotse import MonoCut

from speechmm.cli.main import main
from speechmm.data.manifest import read_cuts, write_cuts
from speechmm.text.tokenizer import Tokenizer

MakeCuts = Callable[..., list[MonoCut]]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def manifest(make_cuts: MakeCuts, tmp_path: Path) -> Path:
    path = tmp_path / "a b" / "train.jsonl.gz"
    write_cuts(make_cuts(1.0, 0.5, 0.4, text="Go home, Zoë"), path)
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_features(manifest: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "öut"
    assert run("features", manifest, "--out", out, "--n-mels", 40) == 0
    assert capsys.readouterr().out == f"{out}: features of 3 utterances\n"
    assert all(cut.num_features == 40 for cut in read_cuts(out / "train.jsonl.gz"))
    assert run("features", manifest, "--out", out, "--n-mels", 40) == 0
    assert capsys.readouterr().err == f"{out}: up to date\n"


def test_features_of_bad_audio(manifest: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "audio" / "1.wav").write_bytes(b"")
    for _ in range(2):  # a rerun says so again
        assert run("features", manifest, "--out", tmp_path / "out") == 3
        err = capsys.readouterr().err.splitlines()
        assert err[-2].startswith("skipped: utt-1: ")
        assert "the file is empty" in err[-2]
        assert err[-1] == "1 of 3 utterances skipped"
    assert run("features", manifest, "--out", tmp_path / "new", "--strict") == 2
    assert capsys.readouterr().err.startswith("speechmm features: error: ")
    assert not (tmp_path / "new" / "features.json").exists()


@pytest.mark.parametrize("content", [None, b"", b"not gzip"], ids=["missing", "empty", "not-gzip"])
@pytest.mark.parametrize("command", ["features", "tokenizer"])
def test_bad_manifest(
    command: str, content: bytes | None, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "train.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    assert run(command, path, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"speechmm {command}: error: {path}: ")


@pytest.mark.parametrize("command", ["features", "tokenizer"])
def test_unwritable_out(command: str, manifest: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("")
    assert run(command, manifest, "--out", tmp_path / "file" / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"speechmm {command}: error: {tmp_path / 'file'}")


@pytest.mark.parametrize("command", ["features", "tokenizer"])
def test_bad_lines_and_duplicates(
    command: str, manifest: Path, tmp_path: Path, capsys: Captured
) -> None:
    cuts = list(read_cuts(manifest))
    path = tmp_path / "mixed.jsonl"
    write_cuts(cuts, path)
    with path.open("ab") as file:
        file.write(b'{"id": "caf\xe9"}\n' + path.read_bytes().splitlines()[0] + b"\n")
    assert run(command, path, "--out", tmp_path / "out") == 3
    err = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in err[:2]] == [
        f"{path}:4",
        f"{path}:5",
    ]
    assert err[-1] == "2 of 5 utterances skipped"


def test_tokenizer(manifest: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "tok" / "tokenizer.json"
    assert run("tokenizer", manifest, "--kind", "char", "--out", out) == 0
    assert capsys.readouterr().out == f"{out}: char, 13 entries, 3 texts\n"
    assert Tokenizer.load(out).decode(Tokenizer.load(out).encode("ZOË")) == "zoë"
    stamp = out.stat().st_mtime_ns
    assert run("tokenizer", manifest, "--kind", "char", "--out", out) == 0
    assert capsys.readouterr().err == f"{out}: up to date\n"
    assert out.stat().st_mtime_ns == stamp
    assert run("tokenizer", manifest, "--kind", "bpe", "--vocab-size", 18, "--out", out) == 0
    assert Tokenizer.load(out).vocab_size == 18
    assert run("tokenizer", manifest, "--normalizer", "verbatim", "--out", out) == 0
    assert Tokenizer.load(out).unknown_characters("Go home, Zoë") == set()


def test_tokenizer_of_texts_without_audio(manifest: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "more.txt").write_text("Quay\n\nXylem\n")
    out = tmp_path / "tokenizer.json"
    for said in (f"{out}: char, 19 entries, 5 texts\n", ""):
        assert run("tokenizer", manifest, tmp_path / "more.txt", "--out", out) == 0
        assert capsys.readouterr().out == said
    assert Tokenizer.load(out).unknown_characters("quay xylem") == set()
    (tmp_path / "more.txt").write_text("Quay\n")
    assert run("tokenizer", manifest, tmp_path / "more.txt", "--out", out) == 0
    assert "4 texts" in capsys.readouterr().out


def test_tokenizer_with_empty_transcripts(
    make_cuts: MakeCuts, tmp_path: Path, capsys: Captured
) -> None:
    cuts = make_cuts(1.0, 0.5)
    cuts[1].supervisions[0].text = "  "
    path = tmp_path / "train.jsonl"
    write_cuts(cuts, path)
    out = tmp_path / "tokenizer.json"
    for _ in range(2):
        assert run("tokenizer", path, "--out", out) == 3
        assert capsys.readouterr().err.splitlines()[-2:] == [
            "skipped: utt-1: its text is empty",
            "1 of 2 utterances skipped",
        ]
    assert json.loads(out.read_text())["made_from"]["texts"] == 1
    assert run("tokenizer", path, "--out", out, "--strict") == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kind", "word"], "--kind"),
        (["--kind", "char", "--vocab-size", "50"], "found 50 for a char tokenizer"),
        (["--kind", "bpe", "--vocab-size", "5"], "found 5; expected at least"),
        (["--kind", "bpe", "--vocab-size", "9999"], "found 9999; expected at most"),
        (["--kind", "bpe", "--vocab-size", "-3"], "--vocab-size"),
        (["--kind", "char", "--language", "de"], "found de with --kind char"),
        (["--normalizer", "none"], "--normalizer"),
        (["--vocab", "50"], "--vocab"),
    ],
)
def test_tokenizer_mistakes(
    flags: list[str], message: str, manifest: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert run("tokenizer", manifest, *flags, "--out", tmp_path / "t.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("speechmm tokenizer: error: ")
    assert message in line
    assert not (tmp_path / "t.json").exists()


def test_phone_tokenizer(manifest: Path, tmp_path: Path, capsys: Captured) -> None:
    pytest.importorskip("espeakng_loader")
    out = tmp_path / "tokenizer.json"
    assert run("tokenizer", manifest, "--kind", "phone", "--language", "en-us", "--out", out) == 0
    tokenizer = Tokenizer.load(out)
    assert tokenizer.language == "en-us"
    assert tokenizer.token_labels(tokenizer.encode("home")) == ["h", "oʊ", "m"]


@pytest.mark.parametrize("command", ["features", "tokenizer"])
def test_help_names_every_flag(command: str, capsys: Captured) -> None:
    assert run(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--out" in text
    assert "--strict" in text
    assert "(required" in text
    assert "default" in text

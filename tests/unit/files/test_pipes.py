"""Pipes, devices and "-": their bytes come once, and every command may look at them as at a file."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechmm.alignments.kinds import kind_of
from speechmm.audio.io import audio_info, read_audio
from speechmm.cli.main import main
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import AudioError
from speechmm.files import pipes
from speechmm.files.json_text import read_json
from speechmm.files.pipes import forget_pipes, is_pipe, is_readable, read_pipe
from speechmm.inference.engine.samples import as_audio
from speechmm.inference.engine.sources import find_sources
from speechmm.inference.recognition.fusion.load import read_phrases

RATE = 16_000


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What one test has read is not there for the next."""
    forget_pipes()
    yield
    forget_pipes()


def fifo(path: Path, data: bytes) -> Path:
    """A named pipe that somebody writes to, once."""
    if not path.exists():
        os.mkfifo(path)

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader has enough
            path.write_bytes(data)

    threading.Thread(target=write, daemon=True).start()
    return path


@contextlib.contextmanager
def stdin(data: bytes) -> Iterator[None]:
    """Within it, these bytes come through standard input."""
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    with os.fdopen(writing, "wb") as end:
        end.write(data)  # fits into the pipe
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def flac(seed: int, seconds: float = 0.1) -> tuple[bytes, np.ndarray]:
    """A recording as its file, and its samples."""
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC")
    return file.getvalue(), samples


def test_what_is_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    assert is_pipe(tmp_path / "fifo")
    assert is_pipe(Path("-"))
    assert is_pipe(Path("/dev/null"))
    for name in ("file", "nothing", "x" * 5000, "a\0b"):
        assert not is_pipe(tmp_path / name)
    assert not is_pipe(tmp_path)
    assert [is_readable(tmp_path / name) for name in ("file", "fifo", "nothing", "x" * 5000)] == [
        True, True, False, False,
    ]  # fmt: skip


def test_the_bytes_of_a_pipe_are_there_for_all_who_ask(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    path = fifo(tmp_path / "fifo", data)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_pipe, [path] * 8))
    assert all(one is found[0] for one in found)
    assert found[0] == data
    forget_pipes(path)
    fifo(path, b"new")
    assert read_pipe(path) == b"new"


def test_a_device_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "LARGEST_DEVICE", 5_000_000)
    with pytest.raises(OSError, match="no end within 5 MB"):
        read_pipe(Path("/dev/zero"))
    with pytest.raises(AudioError, match="no end within 5 MB"):
        audio_info("/dev/zero")
    skipped = SkipReport()
    assert not find_sources(["/dev/zero"], skipped)
    assert "/dev/zero: cannot be read (it is no file, and has no end" in skipped.items[0][1]
    with pytest.raises(AudioError, match="the file is empty"):
        audio_info("/dev/null")


def test_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no end within 1 MB"):
        read_pipe(fifo(tmp_path / "fifo", bytes(3_000_000)), most=1_000_000)


def test_stdin_is_a_pipe_or_a_file(tmp_path: Path) -> None:
    with stdin(b"a b\n"):
        assert read_pipe(Path("-")) == read_pipe(Path("/dev/stdin")) == b"a b\n"
    forget_pipes()
    (tmp_path / "file").write_bytes(b"from a file")
    kept, opened = os.dup(0), os.open(tmp_path / "file", os.O_RDONLY)
    os.dup2(opened, 0)
    try:
        assert read_pipe(Path("-")) == b"from a file"
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(opened)


def test_kinds_of_files_are_told_of_pipes_too(tmp_path: Path) -> None:
    trn = fifo(tmp_path / "a", b"go home (u1)\ncall (u2)\n")
    assert kind_of(trn) == "trn"
    assert read_json(fifo(tmp_path / "b", b'{"a": 1}'), expected="", advice="") == {"a": 1}
    assert read_phrases(str(fifo(tmp_path / "c", b"anna\nberta\n"))) == ["anna", "berta"]


@pytest.mark.parametrize("packed", [False, True])
def test_score_reads_pipes_and_stdin(
    packed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = b"go home (u1)\ncall eight (u2)\n"
    (tmp_path / "ref.trn").write_bytes(said)
    heard = said.replace(b"eight", b"ate")
    heard = gzip.compress(heard) if packed else heard
    pipe = fifo(tmp_path / "pipe", heard)
    assert main(["score", str(pipe), str(tmp_path / "ref.trn"), "--out", str(tmp_path / "r")]) == 0
    of_pipe = capsys.readouterr().out
    assert "25.0" in of_pipe
    with stdin(heard):
        assert main(["score", "-", str(tmp_path / "ref.trn")]) == 0
    assert capsys.readouterr().out == of_pipe


def test_texts_and_manifests_come_through_stdin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stdin(b"go home\ngo now\n"):
        assert main(["ngram", "-", "--order", "2", "--out", str(tmp_path / "lm.arpa")]) == 0
    assert "go" in (tmp_path / "lm.arpa").read_text()
    data, _ = flac(0)
    (tmp_path / "a.flac").write_bytes(data)
    cuts = [make_cut(id=f"u{n}", audio=tmp_path / "a.flac", text="go home now") for n in range(3)]
    write_cuts(cuts, tmp_path / "cuts.jsonl")
    rows = (tmp_path / "cuts.jsonl").read_bytes()
    with stdin(rows):
        assert main(["tokenizer", "-", "--kind", "char", "--out", str(tmp_path / "t.json")]) == 0
    capsys.readouterr()
    with stdin(rows):
        assert main(["info", "-"]) == 0
    assert "utterances" in capsys.readouterr().out
    with stdin(data):
        assert main(["info", "-"]) == 0
    assert "FLAC" in capsys.readouterr().out


def test_standard_input_is_one_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "-", "-"]) == 2
    assert '"-": is given twice; expected standard input for one' in capsys.readouterr().err


@pytest.mark.parametrize("packed", [False, True])
def test_a_manifest_through_a_pipe_is_a_manifest(packed: bool, tmp_path: Path) -> None:
    data, samples = flac(1)
    (tmp_path / "a.flac").write_bytes(data)
    cuts = [make_cut(id=f"u{n}", audio=tmp_path / "a.flac", text="go") for n in range(2)]
    write_cuts(cuts, tmp_path / "cuts.jsonl")
    rows = (tmp_path / "cuts.jsonl").read_bytes()
    path = fifo(tmp_path / "pipe", gzip.compress(rows) if packed else rows)
    skipped = SkipReport()
    found = find_sources([path, fifo(tmp_path / "audio", data)], skipped)
    assert not len(skipped)
    assert [one.id for one in found] == ["u0", "u1", "audio"]
    assert found[0].text == "go"
    for one in found:
        torch.testing.assert_close(
            one.load(RATE), torch.from_numpy(samples).float(), atol=1e-4, rtol=0
        )
        assert one.duration(RATE) == pytest.approx(0.1)
        assert sum(map(len, one.blocks(RATE))) == len(samples)


def test_python_callers_get_what_comes_next(tmp_path: Path) -> None:
    for seed in (1, 2):
        data, samples = flac(seed)
        path = fifo(tmp_path / "pipe", data)
        found = as_audio(path, sample_rate=None, model_rate=RATE)
        np.testing.assert_allclose(found, samples, atol=1e-4)


def test_a_stereo_pipe_is_decoded_as_often_as_needed(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (1600, 2))
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    pipe = fifo(tmp_path / "pipe", (tmp_path / "a.wav").read_bytes())
    assert audio_info(pipe).channels == 2
    torch.testing.assert_close(
        read_audio(pipe, sample_rate=RATE), read_audio(tmp_path / "a.wav", sample_rate=RATE)
    )
    right = read_audio(pipe, sample_rate=RATE, channels=[1])
    np.testing.assert_allclose(right, samples[:, 1], atol=1e-6)

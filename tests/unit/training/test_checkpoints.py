"""Checkpoints are whole, checked, and never lost."""

import os
import re
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechmm.data.fingerprint import audio_digest, content_digest
from speechmm.errors import CheckpointError, ConfigError
from speechmm.training.checkpoints import (
    WholeCheckpoints,
    check_checkpoint,
    keep_earlier,
    last_checkpoint,
)
from speechmm.training.folder_lock import FolderLock

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def save(folder: Path, epoch: int, name: str = "last.ckpt") -> None:
    state = {"state_dict": {"w": torch.randn(500)}, "epoch": epoch, "global_step": epoch}
    WholeCheckpoints().save_checkpoint(state, folder / name)


def in_a_fork(work: Callable[[], None]) -> str:
    """What stops the work in a process of its own, in words."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as file:
        return file.read()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert last_checkpoint(tmp_path) is None
    for epoch in range(3):
        save(tmp_path, epoch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert last_checkpoint(tmp_path) == tmp_path / "last.ckpt"
    damage(tmp_path / "last.ckpt")
    found = last_checkpoint(tmp_path)
    assert found == tmp_path / "previous.ckpt"
    assert torch.load(found, weights_only=True)["epoch"] == 1
    assert "previous.ckpt" in caplog.text
    (tmp_path / "last.ckpt").unlink()
    assert last_checkpoint(tmp_path) == found
    damage(found)
    with pytest.raises(CheckpointError, match="cannot be read"):
        last_checkpoint(tmp_path)


def test_earlier_checkpoints_are_never_replaced(tmp_path: Path) -> None:
    for epoch in range(3):
        save(tmp_path, epoch)
        keep_earlier(tmp_path)
    names = ["earlier-last.ckpt", "earlier-last-2.ckpt", "earlier-last-3.ckpt"]
    states = [torch.load(tmp_path / name, weights_only=True) for name in names]
    assert [state["epoch"] for state in states] == [0, 1, 2]


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    for state in ([1], {"state_dict": {}}):
        torch.save(state, path)
        with pytest.raises(CheckpointError, match="does not hold"):
            check_checkpoint(path)


@pytest.mark.parametrize(
    "pickled", [b"\x80\x02r\x00", b"", b"\x80\x02K\x01.", b"\x80\x02X\xff\xff\xff\x7f"]
)
def test_checksums_that_fit_damaged_content(tmp_path: Path, pickled: bytes) -> None:
    save(tmp_path, 1)
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_checkpoint(path)


def test_devices_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="no regular file"):
        check_checkpoint(tmp_path / "last.ckpt")


def test_a_file_that_cannot_grow_is_named(tmp_path: Path) -> None:
    save(tmp_path, 0)

    def full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        save(tmp_path, 1)

    assert re.match(r"ConfigError: .*last\.ckpt: cannot be written", in_a_fork(full_disk))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    check_checkpoint(tmp_path / "last.ckpt")


def test_one_training_a_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    found = in_a_fork(lambda: FolderLock(tmp_path).release())
    assert f"another fit runs here (process {os.getpid()} on" in found
    lock.release()
    assert in_a_fork(lambda: FolderLock(tmp_path).release()) == ""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        FolderLock(tmp_path / "file")


def test_data_is_the_same_wherever_and_whenever(tmp_path: Path) -> None:
    rows = []
    for place in ("here", "there"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "a.wav").write_bytes(bytes(20_000))
        manifest = folder / "cuts.jsonl"
        manifest.write_text(f'{{"id": "a", "source": "{folder}/a.wav"}}\n')
        rows.append((content_digest(manifest), audio_digest([manifest])))
    assert rows[0] == rows[1]
    (folder / "a.wav").write_bytes(bytes(10_000) + b"x" * 10_000)
    assert audio_digest([manifest]) != rows[0][1]
    manifest.write_text(manifest.read_text().replace('"a"', '"b"'))
    assert content_digest(manifest) != rows[0][0]

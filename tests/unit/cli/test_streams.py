"""Standard streams that are closed or full, and signals, as a shell sees them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from speechmm.cli.streams import standard_streams

PROGRAM = f"exec {sys.executable} -m speechmm"
needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("end", [">&-", pytest.param(">/dev/full", marks=needs_full_device)])
def test_output_that_nobody_gets_is_a_mistake(end: str) -> None:
    done = shell(f"{PROGRAM} --version {end}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("speechmm: error: ")


@pytest.mark.parametrize("end", ["2>&-", pytest.param("2>/dev/full", marks=needs_full_device)])
def test_lost_messages_end_nothing(end: str) -> None:
    assert shell(f"{PROGRAM} --version {end}").returncode == 0
    assert shell(f"{PROGRAM} nothing {end}").returncode == 2


def test_names_that_an_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    with (
        (tmp_path / "out").open("w", encoding="ascii") as file,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", file)
        with standard_streams():
            print("aé€😀" + os.fsdecode(b"\xff"))
    assert (tmp_path / "out").read_bytes() == b"a\\xe9\\u20ac\\U0001f600\xff\n"

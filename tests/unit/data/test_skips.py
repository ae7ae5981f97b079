"""The report of what was left out."""

import errno
import json
import os

import pytest

from speechmm.data.skips import SkipReport, named_failure
from speechmm.errors import AudioError, ManifestError


def test_items_are_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    report = SkipReport()
    report.add("a", "its text\nis empty")
    report.add("b", AudioError("b.wav: broken"))
    report.print(7)
    assert capsys.readouterr().err == (
        "skipped: a: its text is empty\nskipped: b: b.wav: broken\n2 of 7 inputs skipped\n"
    )
    assert report.exit_code == 3
    copy = SkipReport()
    copy.add_dicts(json.loads(json.dumps(report.to_dicts())))
    assert copy.items == report.items


def test_nothing_skipped_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    report = SkipReport()
    report.print(7)
    assert report.exit_code == 0
    assert capsys.readouterr() == ("", "")


def test_strict_raises_at_once() -> None:
    report = SkipReport(strict=True)
    with pytest.raises(AudioError, match="broken"):
        report.add("a", AudioError("broken"))
    with pytest.raises(ManifestError, match="a: empty"):
        report.add("a", "empty")
    loose = SkipReport(items=[("b", "empty")])
    with pytest.raises(ManifestError, match="b: empty"):
        report.extend(loose)
    assert len(report) == 0


def test_what_the_system_refuses_is_no_bug() -> None:
    error = OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "9" * 5000)
    said = str(named_failure("u1", error))
    assert said.startswith("u1: cannot be read (File name too long); expected names and files")
    assert "bug" in str(named_failure("u1", KeyError("x")))

"""Text that people typed: every encoding with a mark, every line end, and errors that say where."""

import gzip
from pathlib import Path

import pytest

from speechmm.data.skips import SkipReport
from speechmm.errors import AlignmentError, ManifestError
from speechmm.files.text import read_lines, read_text

TEXT = "Grüße\n\nfrom Zoë 日本\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_every_encoding_gives_the_same_text(tmp_path: Path, encoding, ends, packed):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    data = (mark + TEXT.replace("\n", ends)).encode(encoding)
    path = tmp_path / "a.txt"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read_text(path) == TEXT
    for skip in (None, SkipReport().add):
        assert read_lines(path, skip=skip) == [(1, "Grüße"), (3, "from Zoë 日本")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"one\nf\xfcr\n",
            r"a.txt:2: byte 0xfc at position 2 of the line \(offset 5 in the file\)",
        ),
        (b"\xef\xbb\xbff\xfcr", r"a.txt:1: byte 0xfc at position 5 of the line \(offset 4"),
        (b"one\r\ntwo\r\n\xe9", r"a.txt:3: byte 0xe9 at position 1 of the line"),
        (
            "a\nb\ud800".encode("utf-16", "surrogatepass"),
            r"a.txt:2: byte 0x00 at offset 8 .* UTF-16",
        ),
        (b"\x1f\x8bnot gzip", "a.txt: cannot be read"),
        (None, r"a.txt: cannot be read \(No such file or directory\); expected a text file"),
    ],
)
def test_errors_name_file_line_and_byte(tmp_path: Path, data, message):
    path = tmp_path / "a.txt"
    if data is not None:
        path.write_bytes(data)
    for read in (read_text, read_lines):
        with pytest.raises(ManifestError, match=message):
            read(path)
        with pytest.raises(AlignmentError, match=message):
            read(path, error=AlignmentError)


def test_lines_that_cannot_be_read_are_named(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\nf\xfcr\n\xe9t\xe9\nlast")
    skipped = SkipReport()
    assert read_lines(path, skip=skipped.add) == [(1, "one"), (4, "last")]
    assert skipped.items == [
        (f"{path}:2", "byte 0xfc at position 2 is not UTF-8; expected UTF-8 text"),
        (f"{path}:3", "byte 0xe9 at position 1 is not UTF-8; expected UTF-8 text"),
    ]
    with pytest.raises(ManifestError, match=r"a.txt:2: byte 0xfc"):
        read_lines(path, skip=SkipReport(strict=True).add)

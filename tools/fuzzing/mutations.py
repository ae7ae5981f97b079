"""Damages inputs: bytes, texts, JSON and YAML values, headers, and what stands under a path."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

Mutator = Callable[[bytes, Random], bytes]

NUMBERS = (
    "1e308", "-1e308", "1e999", "NaN", "nan", "inf", "-Infinity", "-1", "0", "-0.0", "1e-320",
    "2147483648", "9223372036854775808", "18446744073709551616", "9" * 400, "9" * 5000, "1_000",
    "0x10", "1e5", "\u0661\u0662", "\u00b2", "1.5.2", "--1", "1e", "٣", "true",
)  # fmt: skip
"""What is put in the place of numbers."""
TEXTS = (
    "", " ", "\0", "\n", "\t", "\r", "\ufeff", "\u2028", "\x85", "\x1c", "\ud800", "\udcff", "..",
    ".", "/", "~", "-", "../../etc", "a/../b", "C:\\x", "%s", "{}", "${HOME}", "<script>", "'", '"',
    "\\", "|", "(", ")", "((", "<", ">", "&#x110000;", "&#0;", "e\u0301", "\u0130", "ß", "\U0001f600",
    "\u200b", "\u202e", "אב", "one two", "a" * 5000, "12345678901234567890", "1" * 5000, "one million",
    "null", "NaN", "None", "-->", ";;", "#", "\\N", "{\\b1}", "</s>", "<unk>", "\\data\\", "▁", "$1.00",
)  # fmt: skip
"""What is put in the place of texts, or between them."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e308, 1e-320, 2**31, 2**53, 2**63 - 1, 2**64, 10**30, [],
    {}, [[]], [None], {"": None}, [1, 2, 3], {"a": {"b": []}}, "x", *TEXTS[:24], float("nan"),
    float("inf"), "1", "1.0", "1e5", "a" * 300, [0] * 300,
)  # fmt: skip
"""What is put in the place of values of JSON and YAML."""
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_GZIP = b"\x1f\x8b"
_BOMB_MEGABYTES = 600
_ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp1252", "utf-8-sig", "cp037")
_HEADER = 128  # bytes that hold the fields of most formats


def damage(data: bytes, random: Random) -> bytes:
    """The same content, damaged in one to three ways that suit it."""
    if data.startswith(_GZIP) and random.random() < 0.7:
        with io.BytesIO() as packed:
            inner = damage(gzip.decompress(data), random)
            with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=1) as file:
                file.write(inner)
            return packed.getvalue()
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(_suitable(data))(data, random)
    return data


def _suitable(data: bytes) -> list[Mutator]:  # noqa: PLR0911 (a kind each)
    """The ways to damage such content; those that keep its form are there more often."""
    plain: list[Mutator] = [flip, truncate, insert, duplicate, remove, overwrite]
    if data.startswith(b"PK"):
        return [*plain, _zip_member, _zip_member, _zip_member]
    if data.startswith(b"\x93NUMPY"):
        return [*plain, _npy_header, _npy_header]
    if len(data) > 8 and data[8:9] == b"{":
        return [*plain, _safetensors, _safetensors, _safetensors]
    if b"\0" in data[:4096]:
        return [*plain, _field, _field, _field]
    texts: list[Mutator] = [number, number, word, lines, encoding, nest]
    if data.lstrip()[:1] in (b"{", b"["):
        return [*plain, *texts, *([json_value] * 12)]
    if re.match(rb"\w+:\s", data):
        return [*plain, *texts, *([yaml_value] * 12)]
    return [*plain, *texts, *texts]


def flip(data: bytes, random: Random) -> bytes:
    """Single bits."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(data: bytes, random: Random) -> bytes:
    """The beginning, or the end."""
    cut = random.randrange(len(data) + 1)
    return data[:cut] if random.random() < 0.8 else data[cut:]


def insert(data: bytes, random: Random) -> bytes:
    """Bytes, or texts that mean something to somebody."""
    at = random.randrange(len(data) + 1)
    new = random.randbytes(random.choice((1, 2, 16)))
    if random.random() < 0.7:
        new = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    return data[:at] + new + data[at:]


def duplicate(data: bytes, random: Random) -> bytes:
    """A block, or everything, comes again."""
    first, last = _span(data, random)
    times = random.choice((1, 1, 2, 50))
    return data[:last] + data[first:last] * times + data[last:]


def remove(data: bytes, random: Random) -> bytes:
    """A block is missing."""
    first, last = _span(data, random)
    return data[:first] + data[last:]


def overwrite(data: bytes, random: Random) -> bytes:
    """A block of zeros, ones or noise, as a bad disk leaves it."""
    first, last = _span(data, random)
    size = last - first
    block = random.choice((bytes(size), b"\xff" * size, random.randbytes(size), b" " * size))
    return data[:first] + block + data[last:]


def number(data: bytes, random: Random) -> bytes:
    """One number is absurd."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return insert(data, random)
    one = random.choice(found)
    return data[: one.start()] + random.choice(NUMBERS).encode() + data[one.end() :]


def word(data: bytes, random: Random) -> bytes:
    """One word is another, or an absurd one."""
    found = list(re.finditer(rb"\S+", data))
    if not found:
        return insert(data, random)
    one = random.choice(found)
    new = random.choice(found)[0]
    if random.random() < 0.6:
        new = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    return data[: one.start()] + new + data[one.end() :]


def lines(data: bytes, random: Random) -> bytes:
    """Lines in another order, twice, missing, joined, or with other ends."""
    rows = data.split(b"\n")
    change = random.randrange(6)
    at = random.randrange(len(rows))
    if change == 0:
        random.shuffle(rows)
    elif change == 1:
        rows.insert(at, random.choice(rows))
    elif change == 2:
        del rows[at]
    elif change == 3:
        rows.insert(at, b"")
    elif change == 4:
        return random.choice((b"\r\n", b"\r", b" ", b"\0", b"\x85", b"\v")).join(rows)
    else:
        rows[at] = rows[at][:1] * 20_000
    return b"\n".join(rows)


def encoding(data: bytes, random: Random) -> bytes:
    """In another encoding."""
    text = data.decode("utf-8", "replace")
    return text.encode(random.choice(_ENCODINGS), "replace")


def nest(data: bytes, random: Random) -> bytes:
    """Brackets in brackets."""
    at = random.randrange(len(data) + 1)
    depth = random.choice((90, 110, 5_000, 100_000))
    first, last = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"- ", b"")))
    return data[:at] + first * depth + last * random.choice((0, depth)) + data[at:]


def json_value(data: bytes, random: Random) -> bytes:
    """One value somewhere in JSON, or in one row of it, is of another type, missing or there twice."""
    try:
        return json.dumps(_changed(json.loads(data), random)).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        rows = data.split(b"\n")
    at = random.randrange(len(rows))
    try:
        value = _changed(json.loads(rows[at]), random)
        rows[at] = json.dumps(value, ensure_ascii=random.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, RecursionError):
        return word(data, random)
    return b"\n".join(rows)


def yaml_value(data: bytes, random: Random) -> bytes:
    """The same for YAML."""
    try:
        value = _changed(yaml.safe_load(data), random)
        return str(yaml.safe_dump(value, allow_unicode=True)).encode("utf-8", "surrogatepass")
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return word(data, random)


def _changed(value: Any, random: Random) -> Any:
    """A value of JSON with one place in it changed."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        inner = list(one.items()) if isinstance(one, dict) else []
        inner = list(enumerate(one)) if isinstance(one, list) else inner
        places += [(one, key) for key, _ in inner]
        waiting += [under for _, under in inner]
    if not places or random.random() < 0.03:
        return random.choice(VALUES)
    owner, key = random.choice(places)
    change = random.random()
    if change < 0.12:
        del owner[key]
    elif change < 0.17 and isinstance(owner, dict):
        owner[random.choice(TEXTS)] = owner.pop(key)
    elif change < 0.22:
        owner[key] = [owner[key]] * random.choice((1, 2, 40))
    elif change < 0.27:
        owner[key] = {str(key): owner[key]}
    elif change < 0.37:
        other, there = random.choice(places)
        owner[key] = json.loads(json.dumps(other.get(there) if isinstance(other, dict) else None))
    else:
        owner[key] = random.choice(VALUES)
    return value


def _field(data: bytes, random: Random) -> bytes:
    """A field of a binary header says something absurd."""
    size = random.choice((1, 2, 4, 8))
    at = random.randrange(max(1, min(_HEADER, len(data)) - size))
    most = 2 ** (8 * size) - 1
    value = random.choice((0, 1, most, most // 2, most // 2 + 1, random.randrange(most + 1), 16))
    return data[:at] + value.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]


def _npy_header(data: bytes, random: Random) -> bytes:
    end = 10 + int.from_bytes(data[8:10], "little")
    header = bytearray(random.choice((number, word, flip))(data[10:end], random))
    length = struct.pack("<H", min(len(header), 2**16 - 1))
    return data[:8] + length + bytes(header[: 2**16 - 1]) + data[end:]


def _safetensors(data: bytes, random: Random) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    header = random.choice((json_value, json_value, number))(data[8:end], random)
    return struct.pack("<Q", len(header)) + header + data[end:]


def _zip_member(data: bytes, random: Random) -> bytes:
    """One file in an archive is damaged; the checksums fit."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError):
        return flip(data, random)
    if not members:
        return flip(data, random)
    pickled = [name for name in members if name.endswith(".pkl")]
    name = random.choice(pickled if pickled and random.random() < 0.7 else list(members))
    change = random.choice((flip, flip, truncate, insert, remove, duplicate))
    members[name] = change(members[name], random)
    if random.random() < 0.1:
        del members[name]
    with io.BytesIO() as packed:
        with zipfile.ZipFile(packed, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return packed.getvalue()


def _span(data: bytes, random: Random) -> tuple[int, int]:
    first = random.randrange(len(data) + 1)
    size = random.choice((1, 4, 64, 1024, len(data)))
    return first, min(len(data), first + random.randint(1, max(1, size)))


PLACES = (
    "empty",
    "folder",
    "loop",
    "dangling",
    "null",
    "zero",
    "socket",
    "bomb",
    "missing",
    "noise",
)
"""What may stand where a file is expected."""


def put_in_place(path: Path, what: str, random: Random) -> None:
    """Puts something else where a file was.

    Args:
        path: Of the file.
        what: One of ``PLACES``.
        random: Draws the noise.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if what == "empty":
        path.touch()
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    elif what == "dangling":
        path.symlink_to(path.with_name("nothing"))
    elif what in ("null", "zero"):
        path.symlink_to(f"/dev/{what}")
    elif what == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has 108 bytes
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name[:80])
        finally:
            os.chdir(here)
    elif what == "bomb":
        _write_bomb(path, random.choice((b"\0", b"a", b"[", b"\n")))
    elif what == "noise":
        path.write_bytes(random.randbytes(random.choice((1, 100, 10_000))))


def _write_bomb(path: Path, letter: bytes) -> None:
    """A small file that unpacks to a large one."""
    member = gzip.compress(letter * 10_000_000, 1)
    path.write_bytes(member * (_BOMB_MEGABYTES // 10))

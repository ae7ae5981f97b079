"""Writes files that appear whole or not at all: aside first, then renamed."""

import errno
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechmm.errors import ConfigError

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
_REFUSED = frozenset('%/\\:*?"<>|')  # by one file system or another, and "%", which marks them
_NAME_BYTES = 180  # room for a suffix below the usual limit of 255


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yields a path in the same folder to write to, and renames it to ``path`` when all went well.

    Missing folders are made. When the block raises, or the program is killed, whatever stood under
    ``path`` before still stands there. The path yielded ends in the same suffixes.

    Raises:
        ConfigError: The folder cannot be made or written to, or the disk is full.
    """
    aside = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}" + "".join(path.suffixes[-2:])[-40:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        aside.touch()
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        if error.errno in _DISK_TROUBLE or error.filename in (aside, str(aside)):
            raise _cannot_write(path, error) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def write_folder_aside(path: Path) -> Iterator[Path]:
    """Yields a new folder beside ``path``, and puts it in its place when all went well.

    Missing folders are made. When the block raises, nothing is left of the new folder, and what
    stood under ``path`` before still stands there.

    Raises:
        ConfigError: The folder cannot be made or written to, or the disk is full.
    """
    name = uuid.uuid4().hex[:12]
    aside, old = path.parent / f".tmp-{name}", path.parent / f".old-{name}"
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield aside
        if path.exists():
            path.rename(old)
        try:
            aside.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        if error.errno in _DISK_TROUBLE:
            raise _cannot_write(path, error) from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 with Unix line ends, aside and renamed."""
    with write_aside(path) as aside:
        aside.write_bytes(text.encode("utf-8", "surrogateescape"))


def safe_name(name: str) -> str:
    """A file name (without suffix) for any id: distinct ids give distinct names.

    Letters of every script, digits, spaces and most signs stay; what a file system may refuse is
    written as in a URL ("a/b" becomes "a%2Fb"). Long ids are shortened and end in
    a hash of the whole.
    """
    letters = [
        _quote(letter) if letter in _REFUSED or not letter.isprintable() else letter
        for letter in name
    ]
    if name[:1] in (".", " ", "-"):
        letters[0] = _quote(name[0])
    if name[-1:] in (".", " "):
        letters[-1] = _quote(name[-1])
    safe = "".join(letters)
    encoded = safe.encode("utf-8")
    if len(encoded) <= _NAME_BYTES:
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{encoded[: _NAME_BYTES - 18].decode('utf-8', 'ignore')}%-{digest}"


def _quote(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: cannot be written ({error.strerror or error}); expected a folder that can "
        "be written to, with free space. Choose another output path or make room."
    )

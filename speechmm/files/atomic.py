"""Writes files that appear whole or not at all: aside first, then renamed."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechmm.errors import ConfigError, SpeechmmError
from speechmm.files.leftovers import remove, remove_leftovers, unfinished_name
from speechmm.files.pipes import descriptor
from speechmm.files.protection import holds_input, refuse_input

STDOUT = Path("-")
"""As the path of an output: standard output."""
_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
_DISK_TROUBLE_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Read-only file system"
    r"|requested and -?\d+ written|PytorchStreamWriter failed|unexpected pos \d+ vs \d+"
)
"""In errors without a number: of safetensors (Rust), NumPy and PyTorch."""
_REFUSED = frozenset('%/\\:*?"<>|')  # by one file system or another, and "%", which marks them
_NAME_BYTES = 180  # room for a suffix below the usual limit of 255


@contextmanager
def write_aside(path: Path, *, ours: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yields a path in the same folder to write to, and renames it to ``path`` when all went well.

    Missing folders are made. When the block raises, or the program is killed, whatever stood under
    ``path`` before still stands there. The path yielded ends in the same suffixes. A new file gets
    the permissions that the user's umask gives, one that is replaced keeps its own.

    A link stays, and what it leads to is replaced; devices, pipes and ``-`` (standard output) are
    written into.

    Args:
        path: The file.
        ours: It lies in a folder of results under a name the user did not choose: whatever stands
            there, a link too, is replaced by a file.
        durable: Wait until the content is on the disk, so that a power cut leaves the old or the new.

    Raises:
        ConfigError: The folder cannot be made or written to, the disk is full, there is no file name,
            or a file that the running command reads would be overwritten.
    """
    if path.name in ("", ".."):
        raise ConfigError(
            f"{path}: is no name for a file; expected one, such as out.txt. Name a file."
        )
    suffixes = "".join(path.suffixes[-2:])[-40:]
    if not ours and _is_written_into(path):
        with _copied_into(path, suffixes) as aside:
            yield aside
        return
    target = path if ours else Path(os.path.realpath(path))
    aside = target.with_name(unfinished_name(suffixes=suffixes))
    try:
        refuse_input(target, recordings=not ours)
        mode = _prepare(target, aside)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error
    try:
        yield aside
        _set_mode(aside, mode)
        _put(aside, target, durable=durable)
    except SpeechmmError:
        raise
    except Exception as error:
        if _is_disk_trouble(error) or getattr(error, "filename", None) in (aside, str(aside)):
            raise _cannot_write(path, error) from error
        raise
    finally:
        remove(aside)


@contextmanager
def write_folder_aside(path: Path, *, mark: str) -> Iterator[Path]:
    """Yields a new folder beside ``path``, and puts it in its place when all went well.

    Missing folders are made. When the block raises, nothing is left of the new folder, and what
    stood under ``path`` before still stands there. A link to a folder stays one.

    Args:
        path: The folder.
        mark: A file that every folder of this kind holds; a folder without it is not replaced.

    Raises:
        ConfigError: The folder cannot be made or written to, the disk is full, or something else
            stands there.
    """
    if path.name in ("", ".."):
        raise ConfigError(f"{path}: is no name for a new folder; expected one. Name a folder.")
    target = Path(os.path.realpath(path))
    if target.exists() and (not target.is_dir() or holds_input(target) or _is_other(target, mark)):
        raise ConfigError(
            f"{path}: is there and no older result (it has no {mark}), or is read by this command; "
            "expected a new or an empty folder. Choose another name."
        )
    aside = target.with_name(unfinished_name())
    old = target.with_name(unfinished_name("old"))
    try:
        aside.mkdir(parents=True)
        remove_leftovers(target.parent)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error
    try:
        yield aside
        for file in aside.rglob("*"):  # safetensors writes for its user alone
            if file.is_file():
                _set_mode(file, aside.stat().st_mode & 0o666)
        if target.exists():
            target.rename(old)
        try:
            aside.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except SpeechmmError:
        raise
    except Exception as error:
        if _is_disk_trouble(error):
            raise _cannot_write(path, error) from error
        raise
    finally:
        remove(aside)
        remove(old)


def write_text(path: Path, text: str, *, ours: bool = False) -> None:
    """Writes a text file in UTF-8 with Unix line ends, aside and renamed.

    Args:
        path: The file.
        text: Its content; names of files that are not UTF-8 are written as their bytes.
        ours: As in `write_aside`.
    """
    with write_aside(path, ours=ours) as aside:
        aside.write_bytes(text.encode("utf-8", "surrogateescape"))


def is_plain_name(name: object) -> bool:
    """Whether a name read from a file names something in a folder itself, and nothing outside."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(sign in name for sign in "/\\:\0")
    )


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


def _is_written_into(path: Path) -> bool:
    """Whether what stands there must not be replaced: a device, a pipe, an open file of a process."""
    if path == STDOUT:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return descriptor(path) is not None
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or descriptor(path) is not None


@contextmanager
def _copied_into(path: Path, suffixes: str) -> Iterator[Path]:
    """Yields a path in a temporary folder, and copies what was written there into ``path``."""
    with tempfile.TemporaryDirectory(prefix="speechmm-") as folder:
        aside = Path(folder) / f"content{suffixes}"
        aside.touch()
        yield aside
        number = 1 if path == STDOUT else descriptor(path)
        try:
            if number == 1 and sys.stdout is not None:
                _to_stdout(aside)
                return
            open_file = os.dup(number) if number is not None else os.open(path, os.O_WRONLY)
            with aside.open("rb") as content, os.fdopen(open_file, "wb") as file:
                shutil.copyfileobj(content, file)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _cannot_write(path, error) from error


def _to_stdout(file: Path) -> None:
    """Writes a file's bytes where ``print`` writes, after what was printed already."""
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # a stream of text, as in tests and notebooks
        sys.stdout.write(file.read_text("utf-8", errors="replace"))
    else:
        with file.open("rb") as content:
            shutil.copyfileobj(content, binary)
    sys.stdout.flush()


def _prepare(target: Path, aside: Path) -> int:
    """Makes the folder and an empty file; the permissions that the file is to have."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    aside.touch()
    remove_leftovers(target.parent)
    status = target.lstat() if os.path.lexists(target) else None
    kept = status if status is not None and stat.S_ISREG(status.st_mode) else aside.stat()
    if kept.st_uid != aside.stat().st_uid:  # root writes a user's file
        with contextlib.suppress(OSError, AttributeError):
            os.chown(aside, kept.st_uid, kept.st_gid)
    return stat.S_IMODE(kept.st_mode)


def _set_mode(file: Path, mode: int) -> None:
    with contextlib.suppress(OSError):  # file systems without permissions
        file.chmod(mode)


def _put(aside: Path, target: Path, *, durable: bool) -> None:
    if durable:
        _sync(aside)
    try:
        aside.replace(target)
    except OSError as error:
        if error.errno != errno.EBUSY:  # a file that a container mounts
            raise
        shutil.copyfile(aside, target)
    if durable:
        with contextlib.suppress(OSError):  # a folder cannot be opened everywhere
            _sync(target.parent)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _is_other(folder: Path, mark: str) -> bool:
    """Whether a folder holds something, but not what is about to be written anew."""
    return not (folder / mark).is_file() and any(folder.iterdir())


def _is_disk_trouble(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_TROUBLE:
        return True
    return _DISK_TROUBLE_WORDS.search(str(error)) is not None


def _cannot_write(path: Path, error: Exception) -> ConfigError:
    words = _DISK_TROUBLE_WORDS.search(str(error))
    reason = getattr(error, "strerror", None) or (words[0] if words else error)
    if words and words[0].startswith(("Pytorch", "unexpected")):
        reason = "No space left, or not all of it could be written"
    return ConfigError(
        f"{path}: cannot be written ({reason}); expected a folder that can "
        "be written to, with free space. Choose another output path or make room."
    )

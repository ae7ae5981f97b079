"""Keeps a second training out of a run folder that one is writing to."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from speechmm.errors import ConfigError

LOCK = ".lock"


class FolderLock:
    """A lock that the system releases when the process ends, however it ends.

    A record lock: unlike that of ``flock``, processes that read audio do not inherit it, and so do
    not hold it when the training was killed. Where the file system has no locks, there is none.
    """

    def __init__(self, folder: Path):
        """Takes the lock.

        Raises:
            ConfigError: Another training has it, or the folder cannot be written to.
        """
        self._file = None
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / LOCK).open("a+", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be written ({error.strerror}); expected a run folder with "
                "write permission and space. Set trainer.default_root_dir."
            ) from error
        self._file = file
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            self.release()
            raise ConfigError(
                f"{folder}: another fit runs here ({holder}); expected a folder of its own for every "
                "training. Wait for it, end it, or set another trainer.default_root_dir."
            ) from error
        except OSError:  # no locks here
            return
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()

    def release(self) -> None:
        """Lets others in."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

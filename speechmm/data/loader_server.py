"""Starts early what forks the processes of the loader on a machine with a GPU; imports nothing heavy."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

DRIVER = Path("/dev/nvidiactl")


def start() -> None:
    """Starts the process that the loader's processes are forked from.

    A process that holds a GPU has threads, which a fork would leave in the middle of their work; this one
    holds none. It imports what they need while the training process imports what it needs itself, so
    that neither waits for the other: each takes some ten seconds on a machine that has just been started.
    """
    from multiprocessing import forkserver  # which Windows has none of

    multiprocessing.set_forkserver_preload(["speechmm.data.dataset"])
    forkserver.ensure_running()


def start_if_likely() -> None:
    """The same where there is a GPU, before anybody can say whether a training will use it."""
    if DRIVER.exists():
        start()

"""Lets a GPU load what it needs while audio is read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import torch


class WarmUp:
    """Runs something once in a thread, if the device is a GPU; its first use takes it a second or two."""

    def __init__(self, device: torch.device, run: Callable[[], object]):
        """Begins at once.

        Args:
            device: That ``run`` uses.
            run: What is like the work to come, only smaller. That it fails does not matter: so will the
                work.
        """
        self._thread: threading.Thread | None = None
        if device.type == "cuda":
            self._thread = threading.Thread(target=_quietly, args=(run,), daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Until it is done."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None


def _quietly(run: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):
        run()

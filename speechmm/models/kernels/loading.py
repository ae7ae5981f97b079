"""Loads compiled kernels: at once, or in a thread while the process does something else.

Numba takes a second to import, and several to compile where its cache is cold.
"""

import importlib
import threading
from types import ModuleType

_loaded: dict[str, ModuleType] = {}
_asked: set[str] = set()


def load(name: str) -> ModuleType:
    """The kernels ``forward_backward``, ``viterbi`` or ``transcript_edits``; waits for them."""
    _loaded[name] = importlib.import_module(f"speechmm.models.kernels.{name}")
    return _loaded[name]


def load_in_background(name: str) -> None:
    """Starts to load kernels that will be needed; the process ends no sooner than they are ready."""
    if name not in _asked:
        _asked.add(name)
        threading.Thread(target=load, args=(name,), name=f"load {name}").start()


def loaded(name: str) -> bool:
    """Whether kernels are ready for use."""
    return name in _loaded

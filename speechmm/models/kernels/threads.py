"""Spreads the utterances of a batch over the threads of the process, longest first."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch


def for_each_utterance(work: Callable[[int], None], sizes: Sequence[int], *, worth: int) -> None:
    """Calls ``work`` with the place of every utterance; the order changes no result.

    Threads live for one call: none is left in a process that forks.

    Args:
        work: What to do; compiled kernels do it without Python's lock.
        sizes: Of the utterances, in any unit.
        worth: Below this total size threads cost more than they save.
    """
    order = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
    threads = min(torch.get_num_threads(), len(order))
    if threads <= 1 or sum(sizes) < worth:
        for item in order:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, order):  # raises what a call raised
            pass

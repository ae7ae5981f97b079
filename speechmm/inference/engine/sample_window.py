"""Reads a recording of any length forwards, and keeps no more of it than is still asked for."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


class SampleWindow:
    """The samples of a recording by their places, while only a part of them is in memory.

    ``window[first:last]`` reads on as far as needed; what was let go cannot be had again.
    """

    def __init__(self, blocks: Iterable[Float[Tensor, " samples"]]):
        """Begins at the first sample.

        Args:
            blocks: The samples, block by block; they are read when they are asked for.
        """
        self._blocks = iter(blocks)
        self._held = torch.empty(0)
        self._first = 0

    def reach(self, last: int) -> int:
        """How many samples there are, as far as ``last``; less only where the recording ends before."""
        parts = [self._held] if len(self._held) else []
        there = self._first + len(self._held)
        while there < last and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            there += len(block)
        if parts:
            self._held = torch.cat(parts) if len(parts) > 1 else parts[0]
        return there

    def __getitem__(self, span: slice) -> Float[Tensor, " samples"]:
        """Samples ``first:last``, fewer where the recording ends before."""
        self.reach(span.stop)
        assert span.start >= self._first, f"sample {span.start} was let go: {self._first}"
        return self._held[span.start - self._first : span.stop - self._first]

    def forget(self, before: int) -> None:
        """Lets go of all samples before one."""
        count = min(before - self._first, len(self._held))
        if count > 0:
            rest = self._held[count:]
            many = 2 * rest.nbytes > self._held.untyped_storage().nbytes()
            self._held = rest if many else rest.clone()  # so all copies are no more than there is
            self._first += count

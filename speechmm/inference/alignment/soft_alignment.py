"""Holds what an alignment was read from, for those who draw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alignment


@dataclass(frozen=True)
class SoftAlignment:
    """What an alignment was read from, for pictures."""

    features: Float[Tensor, "frames n_mels"]
    """Normalised log-mel."""
    log_probs: Float[Tensor, "frames tokens"]
    """Over the tokens of the text, for each frame."""
    labels: list[str]
    """Of the tokens; empty for silence."""
    frame_seconds: float
    """From frame to frame."""


Observer = Callable[[Alignment, SoftAlignment], None]
"""Called with every chunk of audio that was aligned in one pass (times from its own start)."""

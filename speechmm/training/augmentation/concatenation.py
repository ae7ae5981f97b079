"""Draws which neighbouring utterances of a batch are concatenated to longer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from speechmm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConcatenationConfig:
    """Utterances one after the other, so that short ones teach what long ones are like."""

    share: float = 0.0
    """Share of batches whose utterances are concatenated."""
    max_utterances: int = 4
    """Most utterances in one; as many as are drawn from 2 to this."""
    max_frames: int = 2000
    """Longest result in feature frames (10 ms)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or self.max_utterances < 2:
            raise ConfigError(
                f"model.augmentation.concatenation: share is {self.share}, max_utterances "
                f"{self.max_utterances}; expected 0 to 1, and 2 or more. Correct the config."
            )


def draw_groups(
    lengths: Sequence[int], config: ConcatenationConfig, random: Random
) -> list[list[int]] | None:
    """Neighbours to concatenate to one utterance; None where the batch stays as it is.

    Args:
        lengths: Frames of each utterance.
        config: How often, how many, how long.
        random: Of the choices.
    """
    if not config.share or random.random() >= config.share:
        return None
    groups: list[list[int]] = []
    wanted = frames = 0
    for row, length in enumerate(lengths):
        if wanted and frames + length <= config.max_frames:
            groups[-1].append(row)
            wanted, frames = wanted - 1, frames + length
        else:
            groups.append([row])
            wanted = random.randrange(1, config.max_utterances)
            frames = length
    return groups

"""Makes one channel of several: their average, or one where the average would be near silence."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmm.errors import AudioError

CANCELLED = 0.01
"""Average to channel, in power: -20 dB, as where one wire of a microphone is swapped."""
_SHARE_CANCELLED = 0.1

logger = logging.getLogger(__name__)


def choose_columns(
    blocks: Iterable[NDArray[np.float32]], channels: tuple[int, ...], path: Path
) -> list[int]:
    """The channels of a file whose average is taken.

    All those wanted; only the loudest of them where a tenth of its power or more lies in blocks
    whose average is 20 dB weaker than a channel, for then the channels cancel each other.

    Args:
        blocks: The file, (samples, channels), a second or so each.
        channels: Those wanted.
        path: Of the file, for the log.
    """
    powers = np.zeros(len(channels))
    lost = 0.0
    for block in blocks:
        wanted = np.nan_to_num(block[:, list(channels)], posinf=0.0, neginf=0.0).astype(np.float64)
        power = np.square(wanted).sum(axis=0)
        powers += power
        if np.square(wanted.mean(axis=1)).sum() < CANCELLED * power.max():
            lost += float(power.max())
    if lost <= _SHARE_CANCELLED * powers.max() or lost == 0:
        return list(channels)
    loudest = channels[int((powers >= 0.99 * powers.max()).argmax())]  # the first of equals
    logger.warning(
        "%s: its channels cancel each other when they are averaged; channel %d alone is read",
        path,
        loudest,
    )
    return [loudest]


def check_channels(channels: Iterable[int], there: int, path: Path) -> tuple[int, ...]:
    """Channels that a file must have, counted from 0.

    Raises:
        AudioError: It has no such channel.
    """
    wanted = tuple(dict.fromkeys(channels))
    if not wanted or not all(0 <= channel < there for channel in wanted):
        raise AudioError(
            f"{path}: channel {', '.join(map(str, wanted)) or '(none)'} was asked for, and it has "
            f"{there}; expected one of 0 to {there - 1}. Correct the channel."
        )
    return wanted

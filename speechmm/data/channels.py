"""Says which channels of its recording a cut is the average of, without lhotse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AVERAGED = "averaged_channels"
"""Custom field of a cut whose audio is the average of these channels of its recording."""


def averaged_channels(channel: Any, custom: Mapping[str, Any] | None) -> tuple[int, ...]:
    """Numbers of channels, counted from 0; empty where nothing says.

    Args:
        channel: The field of the cut: a number, several of lhotse's MultiCut, or None.
        custom: Its custom fields, of which ``AVERAGED`` says more.

    Raises:
        TypeError, ValueError: They are no numbers.
    """
    averaged = (custom or {}).get(AVERAGED)
    if averaged:
        channel = averaged
    if channel is None:
        return ()
    return tuple(map(int, channel)) if isinstance(channel, (list, tuple)) else (int(channel),)

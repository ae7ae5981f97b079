"""Draws words of training utterances of one speaker that make new utterances."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from speechmm.errors import ConfigError
from speechmm.training.augmentation.word_bank import WordSource

logger = logging.getLogger(__name__)

MAX_PAUSE_FRAMES = 15
"""Frames kept of the silence before a first or after a last word that comes to stand inside."""


@dataclass(frozen=True, kw_only=True)
class RecombinationConfig:
    """Utterances put together from words of other utterances of the same speaker.

    Where the words were said is what the task ``align`` found when it last saw the utterance. Source
    of the idea: Lam et al. 2021, "On-the-Fly Aligned Data Augmentation for Sequence-to-Sequence ASR",
    with the model's own alignments, whole runs of words, and one speaker at a time.
    """

    share: float = 0.0
    """Share of training utterances that are replaced by recombined ones about as long."""
    after_epochs: int = 4
    """Epochs before the first, until the alignments can be trusted: some hundred steps at least, which a
    corpus of minutes has after twelve epochs only. Begun too early, the training may never learn."""
    run_words: int = 2
    """Most neighbouring words taken together; as many as are drawn from 1 to this. Words between which
    the edge is unsure or loud count as one."""
    keep_gb: float | None = None
    """Of no effect any more: the processes that read audio keep it (``data.cache_gb``)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or min(self.after_epochs, self.run_words - 1) < 0:
            raise ConfigError(
                f"model.augmentation.recombination: share {self.share}, after_epochs {self.after_epochs}, "
                f"run_words {self.run_words}; expected 0 to 1, 0 or more, 1 or more. Correct the config."
            )
        if self.keep_gb is not None:
            logger.warning(
                "model.augmentation.recombination.keep_gb is ignored: the processes that read audio "
                "keep it, as much as data.cache_gb allows"
            )


def draw_pieces(
    sources: Sequence[WordSource],
    places: Sequence[int],
    frames: int,
    config: RecombinationConfig,
    random: Random,
) -> list[tuple[WordSource, tuple[int, int], int, int]]:
    """Runs of words, as many as come nearest to the wanted length.

    Args:
        sources: Utterances of one voice.
        places: How many words, or groups of words that stay together, each and those before it
            have: every one is as likely as any other to begin a run.
        frames: Wanted.
        config: Longest run.
        random: Of the choices.

    Returns:
        Of each run: whose it is, its first word and the one after its last, first and end frame.
    """
    runs: list[tuple[WordSource, int, int]] = []
    wanted = frames
    while not runs or wanted > 0:
        place = random.randrange(places[-1])
        number = bisect_right(places, place)
        one = sources[number]
        start = place - places[number] + one.units
        end = min(start + random.randint(1, config.run_words), one.units)
        size = one.edges[end] - one.edges[start]
        if runs and size > 2 * wanted:  # the length is nearer to the wanted one without it
            break
        runs.append((one, start, end))
        wanted -= size
    # where the start or end of a recording comes to stand inside, its pause is shortened
    pieces = []
    for index, (one, start, end) in enumerate(runs):
        a, b = one.edges[start], one.edges[end]
        if start == 0 and index:
            a = max(a, one.first - MAX_PAUSE_FRAMES)
        if end == one.units and index < len(runs) - 1:
            b = min(b, one.end + MAX_PAUSE_FRAMES)
        if b > a:
            pieces.append((one, (one.words[start], one.words[end]), a, b))
    return pieces

"""Makes training data of synthetic speech: voices drawn at random, and cuts marked as synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from lhotse import MonoCut

from speechmm.data.aligned_cuts import with_alignment
from speechmm.data.cut_rows import SYNTHETIC
from speechmm.data.manifest import make_cut
from speechmm.inference.synthesis.synthesizer import RATES, Speech

SLOWEST, FASTEST = 0.8, 1.25
"""Rates that are drawn, relative to the one that is asked for."""


def draw_voice(speakers: Sequence[str], rate: float, *, seed: int, id: str) -> tuple[str, float]:
    """Who speaks a text, and how fast; it depends on the seed and the id only.

    Args:
        speakers: Of whom one is drawn.
        rate: In the middle of those that are drawn.
        seed: Of all draws.
        id: Of the text.
    """
    source = Random(f"voice {seed} {id}")
    drawn = rate * SLOWEST * (FASTEST / SLOWEST) ** source.random()
    return source.choice(list(speakers)), min(max(drawn, RATES[0]), RATES[1])


def spoken_cut(
    speech: Speech, path: Path, *, text: str, speaker: str | None, language: str | None = None
) -> MonoCut:
    """A cut of synthetic speech, with the times it was made with.

    Args:
        speech: What was spoken.
        path: The file it was written to.
        text: What was spoken, verbatim.
        speaker: Whose voice it is; None or "" where that has no name.
        language: Of the text, when known.
    """
    cut = make_cut(
        id=speech.alignment.id,
        audio=path,
        text=text,
        speaker=speaker or None,
        language=language or None,
        custom={SYNTHETIC: True},
    )
    return with_alignment(cut, speech.alignment, text=text)

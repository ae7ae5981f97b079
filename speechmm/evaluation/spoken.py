"""Shows what a model has spoken: sound, spectrogram and the times of the words."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from speechmm.alignments import read_alignments
from speechmm.alignments.scripts import joined_words
from speechmm.errors import ManifestError
from speechmm.evaluation.clips import BUDGET, Clip, PlacedWord, make_clips, place_words
from speechmm.evaluation.text_lines import UtteranceText

MOST_SPOKEN = 5
SPOKEN_BUDGET = BUDGET // 3
"""Bytes of base64 for them, of those of the page."""


class SpokenRow(TypedDict):
    """A text as it was spoken."""

    id: str
    text: str
    clip: Clip
    words: list[PlacedWord]


def read_spoken(path: Path) -> list[SpokenRow]:
    """The first few texts of what ``synthesize --times`` wrote as jsonl.

    Raises:
        ManifestError: It names no audio that can be played.
        AlignmentError: There is no such file, or it holds no alignments.
    """
    found = read_alignments(path)
    sources = [
        UtteranceText(
            "", audio=one.audio, channels=one.channels, start=one.start, duration=one.duration
        )
        for one in found
    ]
    clips = make_clips(enumerate(sources), most=MOST_SPOKEN, budget=SPOKEN_BUDGET)
    if not clips:
        raise ManifestError(
            f"{path}: names no audio that can be played; expected what 'speechmm synthesize "
            "--times FILE.jsonl' wrote, and its audio. Speak the texts again."
        )
    return [
        {
            "id": found[at].id,
            "text": joined_words([word.label for word in found[at].words]),
            "clip": clip,
            "words": place_words(
                [word.label for word in found[at].words],
                [(word.start, word.end) for word in found[at].words],
                clip.duration,
            ),
        }
        for at, clip in clips.items()
    ]

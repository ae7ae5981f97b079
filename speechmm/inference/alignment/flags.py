"""Flags alignments and texts that look wrong, in words a script can look for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from speechmm.alignments import Alignment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.text.tokenizer import Tokenizer

LOW_CONFIDENCE = 0.2
"""An alignment whose geometric mean frame probability is below this is flagged."""
MIN_FRAMES_PER_TOKEN = 3.0
"""Speech with fewer 10 ms frames per token than this is faster than anybody speaks: flagged."""

_SPOKEN_SIGNS = set("%&@#§")  # punctuation by its Unicode category, and yet read aloud


def signs_of_misfit(alignment: Alignment, tokens: int, features: LogMelConfig) -> Iterator[str]:
    """Flags of the whole: ``low_confidence`` and ``shorter_than_text``."""
    if (alignment.confidence or 0.0) < LOW_CONFIDENCE:
        yield "low_confidence"
    frames = FrameGrid.of(features).frames(alignment.duration)
    if frames < MIN_FRAMES_PER_TOKEN * tokens:
        yield "shorter_than_text"


def text_flags(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """Flags ``unknown_characters`` and ``unspoken``, with what they are."""
    unknown = tokenizer.unknown_characters(text)
    if unknown:
        yield "unknown_characters: " + " ".join(sorted(unknown))
    unspoken = unspoken_words(tokenizer, text)
    if unspoken:
        yield "unspoken: " + " ".join(unspoken)


def unspoken_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Words that would be read aloud, but of which the normalizer leaves nothing ("%", "€")."""
    return [
        word
        for word, ids in tokenizer.encode_words(text)
        if not ids
        and not all(
            unicodedata.category(sign).startswith("P") and sign not in _SPOKEN_SIGNS
            for sign in word
        )
    ]

"""Defines the transcript of an utterance: text, confidence, times of words, n best."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from speechmm.alignments.segments import CONFIDENCE_DECIMALS, TIME_DECIMALS, Segment

SCORE_DECIMALS = 4


@dataclass(frozen=True)
class Alternative:
    """Another reading of an utterance."""

    text: str
    score: float
    """Of the search (natural log), to compare with the others of the same utterance."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What was said in one utterance."""

    id: str
    audio: str = ""
    """Path of the audio file; empty for audio in memory."""
    start: float = 0.0
    """Seconds from the start of the audio file."""
    duration: float
    """Seconds."""
    text: str
    confidence: float
    """Geometric mean of the probabilities of the tokens (of the words, where the bundle was
    calibrated), in [0, 1]; 0 when there are none."""
    words: list[Segment] = field(default_factory=list)
    """In seconds from the start of the audio file; empty unless word times were asked for."""
    alternatives: list[Alternative] = field(default_factory=list)
    """The n best, the text itself first; empty unless more than one was asked for, and for audio
    that was cut into chunks."""
    flags: tuple[str, ...] = ()
    """What looks wrong: ``repeated: ...`` for words that are said again and again."""
    task: str = "asr"
    """asr, or translate where the text is a translation."""
    language: str = ""
    """Of the text, by its code; of several the one of most words. "" where the model knows of none."""
    channels: tuple[int, ...] = ()
    """Those of the audio file that are averaged, counted from 0; empty means all."""

    def to_dict(self) -> dict[str, Any]:
        """The transcript row of the interface, in plain values."""
        row = {
            "id": self.id,
            "audio": self.audio,
            "start": round(self.start, TIME_DECIMALS),
            "duration": round(self.duration, TIME_DECIMALS),
            "text": self.text,
            "confidence": round(self.confidence, CONFIDENCE_DECIMALS),
            "words": [
                {
                    "word": word.label,
                    "start": round(word.start, TIME_DECIMALS),
                    "end": round(word.end, TIME_DECIMALS),
                    "confidence": round(word.confidence or 0.0, CONFIDENCE_DECIMALS),
                }
                for word in self.words
            ],
        }
        if self.alternatives:
            row["alternatives"] = [
                {"text": other.text, "score": round(other.score, SCORE_DECIMALS)}
                for other in self.alternatives
            ]
        if self.flags:
            row["flags"] = list(self.flags)
        if self.task != "asr":
            row["task"] = self.task
        if self.language:
            row["language"] = self.language
        if self.channels:
            row["channels"] = list(self.channels)
        return row

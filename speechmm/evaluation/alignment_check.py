"""Checks alignments without a reference: recognises words cut out at their times, and at others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from speechmm.alignments.ids import match_ids
from speechmm.data.manifest import read_cuts
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import load_waveform
from speechmm.errors import ManifestError, SpeechmmError
from speechmm.evaluation.alignment_sets import read_alignment_set
from speechmm.evaluation.error_rate import score_texts
from speechmm.evaluation.significance import bootstrap_rate
from speechmm.text.normalize import normalize

if TYPE_CHECKING:
    from torch import Tensor

SHIFTS_MS = (-200, -100, -50, 0, 50, 100, 200)
SHORTEST_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class SpokenWord:
    """A word, when it is said, and the utterance it is in."""

    label: str
    start: float
    """Seconds from the start of the utterance."""
    end: float
    """Seconds from the start of the utterance."""
    waveform: Tensor
    """Of the whole utterance."""


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """What recognises words that were cut out."""

    transcribe: Callable[[Sequence[Tensor]], list[str]]
    """Waveforms in, their texts out, in the same order."""
    sample_rate: int
    """Hz."""
    normalizer: str


class ShiftRow(TypedDict):
    """Error rates with all times moved by so much."""

    shift_ms: int
    cer: float
    ci95: list[float]
    words_wrong: float


def read_spoken_words(
    alignment: Path, cuts: Path, *, most: int, seed: int, sample_rate: int, skipped: SkipReport
) -> list[SpokenWord]:
    """The words of the alignments with their audio.

    Args:
        alignment: What ``align`` wrote.
        cuts: Manifest of the aligned audio.
        most: Of more words than this, so many are drawn at random.
        seed: Of that choice.
        sample_rate: Of the waveforms, in Hz.
        skipped: Where words whose audio cannot be read are noted.

    Raises:
        ManifestError: The two have no word in common, or no audio can be read.
    """
    by_id = {cut.id: cut for cut in read_cuts(cuts, skipped)}
    known = match_ids(read_alignment_set(alignment), by_id.keys())
    chosen = [
        (id, number)
        for id, one in known.items()
        if id in by_id
        for number, word in enumerate(one.words)
        if word.end - word.start >= SHORTEST_SECONDS
    ]
    if not chosen:
        raise ManifestError(
            f"{alignment}: no word of {cuts} in it; expected the alignments of these utterances. "
            "Align them first."
        )
    if len(chosen) > most:
        chosen = sorted(random.Random(seed).sample(chosen, most))
    waveforms: dict[str, Tensor] = {}
    words = []
    for id, number in chosen:
        try:
            if id not in waveforms:
                waveforms[id] = load_waveform(by_id[id], sample_rate)
        except SpeechmmError as error:
            skipped.add(id, error)
            continue
        word = known[id].words[number]
        words.append(
            SpokenWord(label=word.label, start=word.start, end=word.end, waveform=waveforms[id])
        )
    if not words:
        raise ManifestError(f"{cuts}: no audio could be read. Check the manifest.")
    return words


def check_shift(words: Sequence[SpokenWord], shift_ms: int, recogniser: Recogniser) -> ShiftRow:
    """Error rates of the words, recognised alone, when all their times are moved by so much."""
    parts = [_cut_out(word, shift_ms, recogniser.sample_rate) for word in words]
    hypotheses = [normalize(text, recogniser.normalizer) for text in recogniser.transcribe(parts)]
    references = [normalize(word.label, recogniser.normalizer) for word in words]
    scored = score_texts(references, hypotheses, unit="character")
    errors = [one.counts.errors for one in scored]
    units = [one.counts.reference_words for one in scored]
    wrong = sum(a != b for a, b in zip(references, hypotheses, strict=True))
    return {
        "shift_ms": shift_ms,
        "cer": sum(errors) / max(1, sum(units)),
        "ci95": list(bootstrap_rate(errors, units) or (0.0, 0.0)),
        "words_wrong": wrong / len(words),
    }


def _cut_out(word: SpokenWord, shift_ms: int, sample_rate: int) -> Tensor:
    """The samples of a word, moved but inside its utterance."""
    length = round((word.end - word.start) * sample_rate)
    first = round((word.start + shift_ms / 1000) * sample_rate)
    first = min(max(0, first), max(0, len(word.waveform) - length))
    return word.waveform[first : first + max(1, length)]


def shift_lines(rows: Sequence[ShiftRow]) -> list[str]:
    """A line for each shift."""
    return [
        f"{row['shift_ms']:>+6} ms: character errors {100 * row['cer']:5.1f} % "
        f"(95 % interval {100 * row['ci95'][0]:.1f} to {100 * row['ci95'][1]:.1f}), "
        f"words wrong {100 * row['words_wrong']:5.1f} %"
        for row in rows
    ]

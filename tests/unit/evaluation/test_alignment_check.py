"""Words cut out at their times and recognised alone, with a recogniser that sees which samples."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from speechmm.evaluation.alignment_check import (
    Recogniser,
    SpokenWord,
    check_shift,
    shift_lines,
)

RATE = 1000
WORDS = [
    SpokenWord(label="Ab!", start=0.1, end=0.3, waveform=torch.arange(1000.0)),
    SpokenWord(label="cdef", start=0.9, end=1.0, waveform=torch.arange(1000.0)),
]


def transcribe(waveforms: Sequence[Tensor]) -> list[str]:
    """Right where the samples are the word's own; wrong by a letter anywhere else."""
    spans = [(int(one[0]), len(one)) for one in waveforms]
    right = {(100, 200): "ab", (900, 100): "cdef"}
    return [right.get(span, wrong) for span, wrong in zip(spans, ("ax", "cdex"), strict=True)]


RECOGNISER = Recogniser(transcribe=transcribe, sample_rate=RATE, normalizer="basic")


@pytest.mark.parametrize(
    ("shift", "letters", "words"),
    [(0, 0, 0), (-50, 2, 2), (50, 1, 1)],  # what would lie behind the end stays inside
)
def test_shifted_words_are_worse(shift: int, letters: int, words: int) -> None:
    row = check_shift(WORDS, shift, RECOGNISER)
    assert row["shift_ms"] == shift
    assert row["cer"] == pytest.approx(letters / 6)
    assert row["words_wrong"] == words / 2
    assert row["ci95"][0] <= row["cer"] <= row["ci95"][1]


def test_lines() -> None:
    (line,) = shift_lines([check_shift(WORDS, -50, RECOGNISER)])
    assert line.startswith("   -50 ms: character errors  33.3 % (95 % interval ")
    assert line.endswith("words wrong 100.0 %")

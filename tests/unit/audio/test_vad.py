"""Cuts of long audio."""

import pytest
import torch

from speechmm.audio.vad import split_at_silence
from speechmm.errors import ConfigError

RATE = 8000


def noise(seconds: float, level: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return level * torch.randn(round(seconds * RATE), generator=generator)


def check_pieces(pieces: list[tuple[int, int]], samples: int, longest: int, shortest: int) -> None:
    """They follow one another, cover everything, and are as long as asked for."""
    assert [first for first, _ in pieces] == [0, *(last for _, last in pieces[:-1])]
    assert pieces[-1][1] == samples
    assert all(last - first <= longest for first, last in pieces)
    assert all(last - first >= shortest for first, last in pieces)


@pytest.mark.parametrize("samples", [1, 79, 8000, 159_999, 160_000])
def test_short_audio_is_one_piece(samples: int) -> None:
    assert split_at_silence(torch.zeros(samples), RATE) == [(0, samples)]

    assert split_at_silence(torch.zeros(0), RATE) == []


def test_cuts_in_the_middle_of_pauses() -> None:
    pauses = [15.0, 26.0, 43.0]  # seconds
    waveform = noise(55.0)
    for pause in pauses:
        waveform[round(pause * RATE) : round((pause + 0.3) * RATE)] *= 0.001
    pieces = split_at_silence(waveform, RATE)
    check_pieces(pieces, len(waveform), 20 * RATE, 5 * RATE)
    cuts = [last / RATE for _, last in pieces[:-1]]
    for pause in pauses:
        assert any(pause + 0.05 <= cut <= pause + 0.25 for cut in cuts), (pause, cuts)


@pytest.mark.parametrize("waveform", [torch.zeros(100 * RATE), noise(100.0), noise(20.001)])
def test_audio_without_pauses(waveform: torch.Tensor) -> None:
    pieces = split_at_silence(waveform, RATE)
    check_pieces(pieces, len(waveform), 20 * RATE, 5 * RATE)
    assert len(pieces) >= len(waveform) / RATE / 20


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 44100])
@pytest.mark.parametrize(("longest", "shortest"), [(1.0, 0.25), (2.5, 1.25), (7.777, 0.01)])
def test_lengths_asked_for(sample_rate: int, longest: float, shortest: float) -> None:
    waveform = noise(24.0)[: 12 * sample_rate]
    pieces = split_at_silence(waveform, sample_rate, max_seconds=longest, min_seconds=shortest)
    check_pieces(
        pieces, len(waveform), round(longest * sample_rate), int(shortest * sample_rate) - 1
    )


def test_level_does_not_matter() -> None:
    waveform = noise(60.0)
    waveform[12 * RATE : 13 * RATE] *= 0.1
    assert split_at_silence(waveform, RATE) == split_at_silence(waveform / 64, RATE)


@pytest.mark.parametrize(("longest", "shortest"), [(2.5, 2.4), (5.0, 0.0), (-1.0, -2.0)])
def test_impossible_lengths(longest: float, shortest: float) -> None:
    with pytest.raises(ConfigError, match="at most half of max_seconds"):
        split_at_silence(torch.zeros(8), RATE, max_seconds=longest, min_seconds=shortest)


def test_cuts_at_the_first_clear_pause() -> None:
    """Sentences of any loudness, in a noisy room, with pauses: each is a piece of its own."""
    waveform = noise(40.0, level=0.003)
    starts = [0.5, 3.4, 6.2, 10.1, 13.3, 16.0, 20.5, 23.0, 27.5, 31.0, 34.4]
    for number, start in enumerate(starts):
        length, level = 1.6 + 0.2 * (number % 4), (0.05, 0.4, 0.1)[number % 3]
        first = round(start * RATE)
        waveform[first : first + round(length * RATE)] += noise(length, level)
    pieces = split_at_silence(waveform, RATE, max_seconds=6.0, min_seconds=1.0)
    check_pieces(pieces, len(waveform), 6 * RATE, RATE)
    for number, start in enumerate(starts):
        end = start + 1.6 + 0.2 * (number % 4)
        whole = [a for a, b in pieces if a <= (start + 0.05) * RATE and b >= (end - 0.05) * RATE]
        assert len(whole) == 1, (start, end, pieces)
    assert len(pieces) >= len(starts)


def test_a_dip_within_a_word_is_no_pause() -> None:
    waveform = noise(12.0)
    waveform[3 * RATE : round(3.1 * RATE)] *= 0.001
    waveform[round(5.0 * RATE) : round(5.5 * RATE)] *= 0.001
    pieces = split_at_silence(waveform, RATE, max_seconds=8.0, min_seconds=1.0)
    assert len(pieces) == 2
    assert 5.1 < pieces[0][1] / RATE < 5.4

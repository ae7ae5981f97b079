"""Times: rounding, and clocks."""

import pytest

from speechmm.timing import (
    format_clock,
    samples_to_seconds,
    seconds_to_frames,
    seconds_to_samples,
)


@pytest.mark.parametrize(
    ("seconds", "sample_rate", "samples"),
    [
        (0.5, 1, 1),
        (1.5, 1, 2),
        (2.5, 1, 3),
        (-0.5, 1, 0),
        (-0.6, 1, -1),
        (0.3, 10, 3),
        (1.1, 44100, 48510),
        (0.00003125, 16000, 1),
        (3600.0, 48000, 172_800_000),
    ],
)
def test_samples_are_rounded_half_up(seconds: float, sample_rate: int, samples: int) -> None:
    assert seconds_to_samples(seconds, sample_rate) == samples


def test_there_and_back() -> None:
    for rate in (8000, 11025, 16000, 44100):
        for samples in (0, 1, 12345, 10 * 3600 * rate + 1):
            assert seconds_to_samples(samples_to_seconds(samples, rate), rate) == samples
        for frames in (0, 1, 777, 3_600_001):
            assert seconds_to_frames(frames * 160 / rate, 160, rate) == frames


def test_frames_are_rounded_half_up() -> None:
    assert seconds_to_frames(0.015, 160, 16000) == 2
    assert seconds_to_frames(0.0149, 160, 16000) == 1


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [
        (0.0, "00:00:00.000"),
        (-3.0, "00:00:00.000"),
        (59.9994, "00:00:59.999"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (3723.0045, "01:02:03.005"),
        (400_000.25, "111:06:40.250"),
    ],
)
def test_clock(seconds: float, clock: str) -> None:
    assert format_clock(seconds) == clock
    assert format_clock(seconds, decimal=",") == clock.replace(".", ",")

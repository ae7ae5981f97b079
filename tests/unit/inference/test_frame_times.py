"""Frames, seconds and samples: frames are centred, and a part of long audio has its own clock."""

import numpy as np
import pytest

from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.alignment.frame_times import FrameClock, FrameGrid

FEATURES = LogMelConfig()
GRID = FrameGrid.of(FEATURES)
ENCODER = FrameGrid.of(FEATURES, 4)


def test_frames_are_centred_on_their_times() -> None:
    clock = FrameClock(hop=0.01, frames=101, duration=1.003)
    assert clock.seconds(0) == 0.0
    assert clock.seconds(50) == pytest.approx(0.495)
    assert clock.seconds(101) == 1.003
    assert FrameClock(hop=0.01, frames=101, duration=1.003, offset=20.5).seconds(
        50
    ) == pytest.approx(0.29)


def test_a_boundary_lies_half_a_hop_before_the_centre_of_its_frame() -> None:
    assert [GRID.sample(boundary) for boundary in (0, 1, 50)] == [-80, 80, 7920]
    assert ENCODER.sample(50) == 50 * 640 - 320
    assert GRID.centres(np.array([0, 1, 50])).tolist() == [0.0, 0.01, 0.5]
    clock = ENCODER.clock(100, 4.0)
    assert clock.seconds(50) == pytest.approx(ENCODER.sample(50) / 16_000)


@pytest.mark.parametrize("subsampling", [1, 2, 4, 8])
def test_clocks_of_features_and_encoder_agree_on_the_length_of_a_frame(subsampling: int) -> None:
    clock = FrameGrid.of(FEATURES, subsampling).clock(10, 1.0)
    assert clock.hop == subsampling * FEATURES.frame_shift


def test_a_part_of_long_audio_counts_from_its_own_start() -> None:
    first_sample = 123_456
    part = ENCODER.clock(1000, 20.0, first_sample=first_sample)
    expected = (ENCODER.sample(300) - first_sample) / 16_000
    assert part.seconds(300) == pytest.approx(expected)
    assert part.seconds(100) == 0.0  # before its start


def test_how_many_frames_a_time_is_long() -> None:
    assert GRID.frames(0.015) == pytest.approx(1.5)
    assert ENCODER.frames(30.0) == 750.0

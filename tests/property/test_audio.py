"""Whatever the audio: padding and blocks change nothing, and cuts cover everything."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechmm.audio.log_mel import LogMel, LogMelConfig, compute_log_mel
from speechmm.audio.resample import resample, resample_blocks
from speechmm.audio.vad import split_at_silence
from speechmm.training.augmentation.spec_augment import SpecAugmentConfig, spec_augment

CONFIG = LogMelConfig(n_mels=40)
LOG_MEL = LogMel(CONFIG)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@given(
    st.lists(st.integers(1, 6000), min_size=1, max_size=4),
    st.integers(0, 3000),
    st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=40)
def test_padding_changes_no_features(lengths: list[int], extra: int, content: float) -> None:
    """Not even padding that is no silence."""
    waveforms = torch.full((len(lengths), max(lengths) + extra), content)
    for row, length in enumerate(lengths):
        waveforms[row, :length] = noise(length, row)
    features, frames = LOG_MEL(waveforms, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = compute_log_mel(noise(length, row), CONFIG)
        assert int(frames[row]) == len(alone) == 1 + length // CONFIG.hop_length
        torch.testing.assert_close(features[row, : len(alone)], alone, atol=1e-4, rtol=0)
        assert not features[row, len(alone) :].any()


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=8),
    st.sampled_from([4000, 8000, 11025, 22050, 44100, 48000, 16001]),
)
@settings(max_examples=40)
def test_blocks_of_any_length_join_to_the_whole(lengths: list[int], from_rate: int) -> None:
    blocks = [noise(length, seed) for seed, length in enumerate(lengths)]
    whole = resample(torch.cat(blocks), from_rate=from_rate, to_rate=16000)
    joined = list(resample_blocks(iter(blocks), from_rate=from_rate, to_rate=16000))
    torch.testing.assert_close(torch.cat(joined), whole, atol=1e-5, rtol=0)


@given(
    st.integers(0, 60_000),
    st.integers(1, 2000),
    st.floats(0.2, 8.0),
    st.floats(0.02, 0.5),
    st.lists(st.floats(0.0, 1.0), max_size=5),
)
@settings(max_examples=60)
def test_pieces_cover_everything_and_are_not_too_long(
    samples: int, sample_rate: int, longest: float, share: float, quiet: list[float]
) -> None:
    waveform = noise(samples)
    for place in quiet:
        begin = int(place * samples)
        waveform[begin : begin + sample_rate // 3] = 0.0
    pieces = split_at_silence(
        waveform, sample_rate, max_seconds=longest, min_seconds=share * longest
    )
    assert [0, *(last for _, last in pieces)] == [*(first for first, _ in pieces), samples]
    step = max(1, round(0.01 * sample_rate))
    limit = max(longest * sample_rate, 2 * step)
    assert all(0 < last - first <= limit for first, last in pieces)


@given(
    st.lists(st.integers(1, 120), min_size=1, max_size=4),
    st.integers(0, 40),
    st.integers(0, 60),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_masks_leave_the_rest_alone(
    lengths: list[int], time_frames: int, bins: int, multiplicity: float, seed: int
) -> None:
    features = torch.randn(
        len(lengths), max(lengths), 20, generator=torch.Generator().manual_seed(seed)
    )
    config = SpecAugmentConfig(
        time_mask_frames=time_frames, freq_mask_bins=bins, time_mask_multiplicity=multiplicity
    )
    generator = torch.Generator().manual_seed(seed)
    changed = spec_augment(features, torch.tensor(lengths), config, generator) != features
    for row, length in enumerate(lengths):
        assert not changed[row, length:].any()
        frames = changed[row, :length].all(dim=1)
        bands = changed[row, :length].all(dim=0)
        rest = changed[row, :length] & ~frames[:, None] & ~bands[None, :]
        assert not rest.any()  # whole frames and whole bands only
        if not bands.all():
            widest = min(time_frames, int(config.time_mask_share * length))
            most = max(config.time_masks, int(multiplicity * length))
            assert int(frames.sum()) <= most * widest


def test_masks_in_time_grow_with_the_utterance() -> None:
    config = SpecAugmentConfig(time_mask_multiplicity=0.015, time_mask_frames=20, freq_masks=0)
    lengths = torch.tensor([100] * 200 + [400] * 200 + [1600] * 200)
    features = torch.randn(600, 1600, 2, generator=torch.Generator().manual_seed(0))
    masked = spec_augment(features, lengths, config, torch.Generator().manual_seed(1)) != features
    short, middle, long = (masked.any(dim=2).sum(dim=1) / lengths).view(3, 200).mean(dim=1).tolist()
    assert short == pytest.approx(0.14, abs=0.03)  # two masks of 7.5 frames, the fewest there are
    assert middle == pytest.approx(0.14, abs=0.02)  # six of 10 in 400, some over others
    assert long == pytest.approx(0.14, abs=0.02)

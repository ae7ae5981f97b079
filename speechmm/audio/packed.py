"""Packs stretches of many waveforms into few, so that a device computes all their log-mel at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig, log_mel_on
from speechmm.audio.resample import (
    filter_reach,
    perturb_num_samples,
    perturb_speed,
    resample_on_device,
    speed_ratio,
)

FULL_SCALE = 32768  # of 16-bit samples
_LARGEST_STEP = 1 << 14  # samples: the coarsest raster that stretches may be laid on


@dataclass(frozen=True)
class Stretch:
    """Frames ``first`` to ``end`` of a waveform played at a speed."""

    waveform: Tensor
    """Samples of 16 bits or float32, at the speed of the recording."""
    factor: float
    """1.1 is 10 % faster and higher."""
    first: int
    end: int
    """The frame after the last."""


@dataclass
class PackedClips:
    """Waveforms of a batch one after the other, and which frames of them are whose."""

    ratios: list[tuple[int, int]]
    """Of each group of clips of one speed: ``(down, up)``, as in ``speed_ratio``."""
    samples: list[Tensor]
    """Of each group: clips with silence between them, 16 bits or float32."""
    spans: list[Int[Tensor, "_ 2"]]
    """Of each group: where every clip begins and ends once its speed is changed; silence elsewhere."""
    frames: Int[Tensor, "batch frames"]
    """Which frame of the whole is where in the batch; padding points after the last."""

    def map(self, function: Callable[[Tensor], Tensor]) -> PackedClips:
        """The same with every tensor changed."""
        return PackedClips(
            self.ratios,
            [function(one) for one in self.samples],
            [function(one) for one in self.spans],
            function(self.frames),
        )

    @torch.no_grad()
    def log_mel(self, config: LogMelConfig) -> Float[Tensor, "batch frames n_mels"]:
        """The features of all rows, on the device of the samples; reads nothing back to the host.

        Each is what ``compute_log_mel`` gives for its own waveform, within rounding.
        """
        parts = [self._played(group) for group in range(len(self.ratios))]
        waveform = torch.cat(parts)
        length = torch.full((1,), len(waveform), device=waveform.device)
        features, _ = log_mel_on(config, waveform.device)(waveform[None], length)
        padded = torch.nn.functional.pad(features[0], (0, 0, 0, 1))
        rows = padded.index_select(0, self.frames.flatten())
        return rows.view(*self.frames.shape, -1)

    def _played(self, group: int) -> Float[Tensor, " samples"]:
        """A group at its speed, silent between the clips."""
        samples = self.samples[group]
        waveform = samples.float()
        if samples.dtype == torch.int16:
            waveform = waveform / FULL_SCALE
        down, up = self.ratios[group]
        if down == up:
            return waveform
        changed = resample_on_device(waveform, down, up)
        # The filter rings beyond the end of a clip; a clip of its own ends there.
        spans = self.spans[group].long()
        steps = torch.zeros(len(changed) + 1, device=changed.device, dtype=torch.int32)
        steps.index_add_(0, spans[:, 0], torch.ones_like(spans[:, 0], dtype=torch.int32))
        steps.index_add_(0, spans[:, 1], torch.full_like(spans[:, 1], -1, dtype=torch.int32))
        return changed * (steps[:-1].cumsum(0) > 0)


def as_recorded(waveform: Float[Tensor, " samples"]) -> Tensor:
    """Samples of 16 bits where the waveform is made of such, else the waveform itself."""
    whole = waveform * FULL_SCALE
    narrow = whole.to(torch.int16)
    return narrow if torch.equal(narrow.float(), whole) else waveform


def played_samples(num_samples: int, factor: float) -> int:
    """Samples of a waveform of so many, played at a speed."""
    return num_samples if factor == 1.0 else perturb_num_samples(num_samples, factor)


def pack(
    rows: Sequence[Sequence[Stretch]],
    config: LogMelConfig,
    round_up: Callable[[int], int] = lambda frames: frames,
) -> PackedClips:
    """Packs the stretches that make up each row of a batch.

    Of a waveform only what its frames need is kept.

    Args:
        rows: Of each row, what follows what.
        config: Settings of the features.
        round_up: From the frames of the longest row to those of the batch.
    """
    groups: dict[tuple[int, int], _Group] = {}
    places: list[list[tuple[tuple[int, int], int, int]]] = []
    for row in rows:
        places.append([])
        for stretch in row:
            ratio, usable = _on_raster(stretch, config)
            group = groups.setdefault(ratio, _Group(*ratio, config))
            places[-1].append((ratio, group.add(usable), stretch.end - stretch.first))
    order = sorted(groups)
    offsets, total = {}, 0
    for ratio in order:
        offsets[ratio] = total // config.hop_length
        total += groups[ratio].length
    longest = max((sum(count for *_, count in row) for row in places), default=0)
    end = config.num_frames(total)
    frames = torch.full((len(rows), round_up(longest)), end, dtype=torch.int32)
    for number, row_places in enumerate(places):
        done = 0
        for ratio, first, count in row_places:
            start = offsets[ratio] + first
            frames[number, done : done + count] = torch.arange(start, start + count)
            done += count
    return PackedClips(
        order,
        [groups[ratio].samples() for ratio in order],
        [torch.tensor(groups[ratio].spans, dtype=torch.int32) for ratio in order],
        frames,
    )


def _on_raster(stretch: Stretch, config: LogMelConfig) -> tuple[tuple[int, int], Stretch]:
    """The ratio of a stretch's speed; where that is too uneven, the stretch with its speed changed."""
    if stretch.factor == 1.0:
        return (1, 1), stretch
    ratio = speed_ratio(stretch.factor, config.sample_rate)
    if ratio is not None and math.lcm(ratio[1], config.hop_length) <= _LARGEST_STEP:
        return ratio, stretch
    waveform = perturb_speed(as_float(stretch.waveform), stretch.factor, config.sample_rate)
    return (1, 1), Stretch(waveform, 1.0, stretch.first, stretch.end)


def as_float(samples: Tensor) -> Float[Tensor, " samples"]:
    """What :func:`as_recorded` was given."""
    return samples / FULL_SCALE if samples.dtype == torch.int16 else samples


class _Group:
    """Clips of one speed, laid one after the other.

    Each begins, at the new speed, with a frame, and at the old speed with a phase of the filter;
    so much silence follows that neither a window nor the filter sees two clips.
    """

    def __init__(self, down: int, up: int, config: LogMelConfig):
        self.down, self.up, self.hop = down, up, config.hop_length
        self.step = math.lcm(up, config.hop_length)
        self.margin = config.n_fft + math.ceil(filter_reach(down, up) * up / down)
        self.length = 0  # samples at the new speed
        self.spans: list[tuple[int, int]] = []
        self.clips: list[tuple[int, Tensor]] = []

    def add(self, stretch: Stretch) -> int:
        """Lays down what a stretch needs; the number of its first frame in the group."""
        wanted = played_samples(len(stretch.waveform), stretch.factor)
        left = max(0, stretch.first * self.hop - self.margin) // self.step * self.step
        right = min(wanted, stretch.end * self.hop + self.margin)
        needed = math.ceil((right + self.margin) * self.down / self.up)
        clip = stretch.waveform[left * self.down // self.up : needed]
        made = min(right - left, math.ceil(len(clip) * self.up / self.down))
        start = self.length
        self.clips.append((start * self.down // self.up, clip))
        self.spans.append((start, start + made))
        room = max(right - left, math.ceil(len(clip) * self.up / self.down)) + self.margin
        self.length += math.ceil(room / self.step) * self.step
        return (start - left) // self.hop + stretch.first

    def samples(self) -> Tensor:
        """All clips, silence between them."""
        narrow = all(clip.dtype == torch.int16 for _, clip in self.clips)
        dtype = torch.int16 if narrow else torch.float32
        samples = torch.zeros(self.length * self.down // self.up, dtype=dtype)
        for start, clip in self.clips:
            samples[start : start + len(clip)] = clip if narrow else as_float(clip)
        return samples

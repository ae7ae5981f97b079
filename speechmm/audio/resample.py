"""Changes the sample rate, of whole recordings and of streams, and the speed.

The filter is torchaudio's windowed sinc (Hann, 6 zero crossings, cut-off at 0.99 of the lower
Nyquist frequency). torchaudio holds one filter per output phase, which for two rates without a
large common divisor (16,001 and 16,000 Hz) would take gigabytes; there the same filter is
evaluated sample by sample.
"""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache

import torch
import torchaudio
from jaxtyping import Float
from torch import Tensor

from speechmm.errors import ConfigError

_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
_LARGEST_KERNEL = 4_000_000  # weights: 16 MB of float32
_CHUNK = 1 << 15  # output samples computed at once where there is no kernel
_SPEEDS = (0.2, 5.0)


def resample(
    waveform: Float[Tensor, " samples"], *, from_rate: int, to_rate: int
) -> Float[Tensor, " new_samples"]:
    """A waveform at another sample rate; ``ceil(samples * to_rate / from_rate)`` samples long.

    Args:
        waveform: Any number of samples, none included.
        from_rate: Its rate in Hz.
        to_rate: The wanted rate in Hz.
    """
    ratio = Fraction(from_rate, to_rate)
    return _resample(waveform, ratio.numerator, ratio.denominator)


def resample_blocks(
    blocks: Iterable[Tensor], *, from_rate: int, to_rate: int
) -> Iterator[Float[Tensor, " samples"]]:
    """Resamples a stream of blocks in bounded memory.

    The blocks that come out, joined, equal :func:`resample` of the blocks that went in, joined: the
    filter always sees the samples on both sides of a seam.

    Args:
        blocks: Waveforms that follow one another, of any lengths.
        from_rate: Their rate in Hz.
        to_rate: The wanted rate in Hz.
    """
    ratio = Fraction(from_rate, to_rate)
    down, up = ratio.numerator, ratio.denominator
    if down == up:
        yield from blocks
        return
    context = down * math.ceil((_reach(down, up) + down) / down)
    held = torch.zeros(0)
    emitted = 0  # samples at the beginning of `held` whose output is out already; divides by `down`
    for block in blocks:
        held = torch.cat([held, block])
        ready = (len(held) - context) // down * down
        if ready <= emitted:
            continue
        yield _resample(held, down, up)[emitted // down * up : ready // down * up]
        kept_from = max(0, ready - context)
        held, emitted = held[kept_from:], ready - kept_from
    yield _resample(held, down, up)[emitted // down * up :]


def perturb_speed(
    waveform: Float[Tensor, " samples"], factor: float, sample_rate: int
) -> Float[Tensor, " new_samples"]:
    """Plays a waveform faster or slower, pitch included, as sox's ``speed`` does.

    The result has ``samples / factor`` samples, rounded half up, as lhotse's manifests expect.

    Args:
        waveform: The samples.
        factor: 1.1 is 10 % faster and higher; taken to the nearest ``1 / sample_rate``.
        sample_rate: Rate of the waveform, and of the result, in Hz.

    Raises:
        ConfigError: The factor is outside 0.2 to 5.

    Source: Ko et al. 2015, "Audio Augmentation for Speech Recognition".
    """
    if not _SPEEDS[0] <= factor <= _SPEEDS[1]:
        raise ConfigError(
            f"speed factor: {factor}; expected {_SPEEDS[0]} to {_SPEEDS[1]}. "
            "Usual factors are 0.9, 1.0 and 1.1."
        )
    changed = resample(waveform, from_rate=round(sample_rate * factor), to_rate=sample_rate)
    wanted = perturb_num_samples(len(waveform), factor)
    if wanted > len(changed):
        return torch.nn.functional.pad(changed, (0, wanted - len(changed)))
    return changed[:wanted]


def perturb_num_samples(num_samples: int, factor: float) -> int:
    """Samples that :func:`perturb_speed` makes of so many."""
    return math.floor(num_samples / factor + 0.5)


def speed_ratio(factor: float, sample_rate: int) -> tuple[int, int] | None:
    """The rates between which :func:`perturb_speed` resamples, ``(down, up)`` in lowest terms.

    None where they are too uneven for one filter a phase: :func:`perturb_speed` knows what to do.
    """
    ratio = Fraction(round(sample_rate * factor), sample_rate)
    down, up = ratio.numerator, ratio.denominator
    return (down, up) if _has_kernel(down, up) else None


def resample_on_device(
    waveform: Float[Tensor, " samples"], down: int, up: int
) -> Float[Tensor, " new_samples"]:
    """A waveform on any device with ``up`` samples where it has ``down``; computed there.

    In double precision: on GPUs single precision may mean TF32, whose noise is at -66 dB. The
    filter is copied to the device when first asked for.

    Args:
        waveform: The samples.
        down: Of :func:`speed_ratio`.
        up: Of the same.
    """
    if down == up:
        return waveform
    resampled: Tensor = _kernel_on(down, up, waveform.device)(waveform.double())
    return resampled.to(waveform.dtype)


def filter_reach(down: int, up: int) -> int:
    """Input samples beyond which, on either side, the filter of these rates sees nothing."""
    return 0 if down == up else _reach(down, up) + down


def _has_kernel(down: int, up: int) -> bool:
    return up * (down + 2 * _reach(down, up)) <= _LARGEST_KERNEL


def _reach(down: int, up: int) -> int:
    """How many input samples the filter sees on each side."""
    return math.ceil(_ZERO_CROSSINGS * down / (min(down, up) * _ROLLOFF))


def _resample(waveform: Tensor, down: int, up: int) -> Tensor:
    if down == up or len(waveform) == 0:
        return waveform
    if _has_kernel(down, up):
        resampled: Tensor = _kernel(down, up)(waveform)
        return resampled
    outputs = math.ceil(len(waveform) * up / down)
    return torch.cat(
        [
            _interpolate(waveform, down, up, first, min(first + _CHUNK, outputs))
            for first in range(0, outputs, _CHUNK)
        ]
    )


@lru_cache(maxsize=32)
def _kernel(down: int, up: int) -> torchaudio.transforms.Resample:
    # Weights computed in single precision are wrong by up to 3e-5.
    return _double_kernel(down, up).float()


@lru_cache(maxsize=32)
def _kernel_on(down: int, up: int, device: torch.device) -> torchaudio.transforms.Resample:
    return _double_kernel(down, up).to(device)


def _double_kernel(down: int, up: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(
        down, up, lowpass_filter_width=_ZERO_CROSSINGS, rolloff=_ROLLOFF, dtype=torch.float64
    )


def _interpolate(waveform: Tensor, down: int, up: int, first: int, last: int) -> Tensor:
    """Output samples ``first`` to ``last``, each the filter's weighted sum of the input around it."""
    nearest, weights = _phases(down, up)
    outputs = torch.arange(first, last)
    phase = outputs % up
    reach = weights.shape[1] // 2 - 1
    begin = (outputs // up) * down + nearest[phase]
    start, stop = int(begin[0]) - reach, int(begin[-1]) + reach + 2
    around = torch.nn.functional.pad(
        waveform[max(0, start) : stop], (max(0, -start), max(0, stop - len(waveform)))
    )
    taps = around.unfold(0, weights.shape[1], 1)[begin - begin[0]]
    return (taps * weights[phase]).sum(dim=1)


@lru_cache(maxsize=8)
def _phases(down: int, up: int) -> tuple[Tensor, Tensor]:
    """For each output phase, the input sample at or before it and the weights of those around.

    Source: torchaudio ``_get_sinc_resample_kernel``, the formula of its "sinc_interp_hann".
    """
    cutoff = min(1.0, up / down) * _ROLLOFF  # of the input's Nyquist frequency
    reach = math.ceil(_ZERO_CROSSINGS / cutoff)
    position = torch.arange(up) * down  # in input samples times `up`: exact integers
    fraction = (position % up).double() / up
    offsets = torch.arange(-reach, reach + 2)
    angle = ((offsets - fraction[:, None]) * cutoff).clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = torch.cos(angle * (math.pi / _ZERO_CROSSINGS / 2)).square()
    return position // up, (torch.sinc(angle) * window * cutoff).float()

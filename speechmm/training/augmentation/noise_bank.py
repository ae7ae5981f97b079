"""Makes sounds that are not speech: noises of many colours, hum, tones, chords, clicks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.log_mel import FLOOR, LogMelConfig, compute_log_mel
from speechmm.models.utterance_mean import frame_levels

CLIPS_OF_EACH = 8
CLIP_SECONDS = 4.0
TILT_NATS = 2.0  # largest random tilt from the lowest band to the highest, each way
SEED = 0  # of the sounds; which of them a training hears when is drawn by the training


class NoiseBank:
    """Log-mel features of sounds that are not speech; the loudest frame of each is at 0 dB."""

    def __init__(self, log_mel: LogMelConfig):
        generator = torch.Generator().manual_seed(SEED)
        samples = round(CLIP_SECONDS * log_mel.sample_rate)
        clips = []
        for make in (_noise, _hum, _chord, _clicks, _beeps, _gusts):
            for _ in range(CLIPS_OF_EACH):
                sound = make(samples, log_mel.sample_rate, generator)
                sound = sound / sound.square().mean().sqrt().clamp(min=1e-9)
                sound = sound + 10 ** (-3.0 * _rand(generator)) * 0.03 * _white(samples, generator)
                features = compute_log_mel(sound, log_mel)
                clips.append(features - frame_levels(features[None]).amax())
        self.clips = torch.stack(clips).clamp(min=math.log(FLOOR))
        """(clips, frames, n_mels)."""

    def draw(
        self, rows: int, frames: int, generator: torch.Generator | None
    ) -> Float[Tensor, "rows frames n_mels"]:
        """A random part of a random clip for each row, its spectrum tilted at random.

        Args:
            rows: How many.
            frames: Of each; a clip is repeated where that is longer.
            generator: Of the random choices, on the CPU; torch's own when not given.
        """
        count, length, n_mels = self.clips.shape
        clip = torch.randint(count, (rows,), generator=generator)
        start = torch.randint(length, (rows,), generator=generator)
        frame = (start[:, None] + torch.arange(frames)[None, :]) % length
        tilt = (2 * torch.rand(rows, generator=generator) - 1) * TILT_NATS
        across = torch.linspace(-1.0, 1.0, n_mels)
        return self.clips[clip[:, None], frame] + (tilt[:, None] * across[None, :])[:, None, :]


Sound = Callable[[int, int, torch.Generator], Tensor]


def _rand(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _white(samples: int, generator: torch.Generator) -> Tensor:
    return torch.randn(samples, generator=generator)


def _seconds(samples: int, rate: int) -> Tensor:
    return torch.arange(samples) / rate


def _pitch(rate: int, generator: torch.Generator) -> float:
    """60 Hz to 4 kHz or a third of the sample rate, each octave as likely."""
    return 60.0 * math.pow(min(4000.0, rate / 3) / 60.0, _rand(generator))


def _tone(samples: int, rate: int, hertz: float, generator: torch.Generator) -> Tensor:
    phase = 2 * math.pi * (hertz * _seconds(samples, rate) + _rand(generator))
    return torch.sin(phase)


def _noise(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    """Steady noise, its power falling by 0 (white) to 6 dB (brown) an octave."""
    spectrum = torch.fft.rfft(_white(samples, generator))
    hertz = torch.linspace(0.0, rate / 2, len(spectrum)).clamp(min=20.0)
    coloured: Tensor = torch.fft.irfft(spectrum * hertz.pow(-_rand(generator)), n=samples)
    return coloured


def _hum(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    """Mains: 50 or 60 Hz, with harmonics."""
    base = 50.0 if _rand(generator) < 0.5 else 60.0
    steepness = 0.5 + 2 * _rand(generator)
    return torch.stack(
        [
            k**-steepness * _tone(samples, rate, k * base, generator)
            for k in range(1, 1 + int(1 + 12 * _rand(generator)))
        ]
    ).sum(dim=0)


def _chord(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    """One tone to four at once, steady or dying away, now and then others."""
    parts = []
    left = samples
    while left > 0:
        size = min(left, round((0.2 + 4 * _rand(generator) ** 2) * rate))
        tones = [
            _tone(size, rate, _pitch(rate, generator), generator)
            for _ in range(1 + int(4 * _rand(generator)))
        ]
        decay = torch.exp(-5 * _rand(generator) * _seconds(size, rate))
        parts.append(torch.stack(tones).sum(dim=0) * decay)
        left -= size
    return torch.cat(parts)


def _clicks(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    """Clicks at random or at even times, of a sample to 20 ms each."""
    a_second = 1 + 30 * _rand(generator) ** 2
    count = max(1, round(a_second * samples / rate))
    places = torch.rand(count, generator=generator)
    if _rand(generator) < 0.5:
        places = (torch.arange(count) + 0.5) / count
    impulses = torch.zeros(samples)
    impulses[(places * (samples - 1)).long()] = 1.0 + torch.rand(count, generator=generator)
    width = max(1, round(0.02 * _rand(generator) ** 2 * rate))
    shape = _white(width, generator) * torch.linspace(1.0, 0.0, width + 1)[:width]
    spectra = [torch.fft.rfft(one, n=2 * samples) for one in (impulses, shape)]
    clicks: Tensor = torch.fft.irfft(spectra[0] * spectra[1], n=2 * samples)
    return clicks[:samples]


def _beeps(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    """A tone going on and off, as of a telephone, or gliding up and down."""
    time = _seconds(samples, rate)
    period = 0.2 + 2 * _rand(generator)
    pitch = _pitch(rate, generator)
    if _rand(generator) < 0.5:
        swing = 0.3 * _rand(generator) * pitch * torch.sin(2 * math.pi * time / period)
        return torch.sin(2 * math.pi * torch.cumsum(pitch + swing, dim=0) / rate)
    on = (time / period) % 1.0 < 0.2 + 0.6 * _rand(generator)
    return _tone(samples, rate, pitch, generator) * on


def _gusts(samples: int, rate: int, generator: torch.Generator) -> Tensor:
    """Noise that swells and fades, slowly or several times a second."""
    time = _seconds(samples, rate)
    speed = 0.2 * 40 ** _rand(generator)
    swell = torch.sin(math.pi * (speed * time + _rand(generator))).abs() ** (4 * _rand(generator))
    return _noise(samples, rate, generator) * swell

"""Computes log-mel features: natural log of slaney mel power, one frame every ``hop_length`` samples."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
import torchaudio
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from speechmm.errors import ConfigError

FLOOR = 1e-10  # power below which the logarithm is cut
_LARGEST = {
    "sample_rate": 768_000,
    "n_mels": 1024,
    "n_fft": 65_536,
    "win_length": 65_536,
    "hop_length": 65_536,
}
"""Settings and the most that makes sense; what is larger is a mistake, and takes all memory."""
_BLOCK_FRAMES = 1024  # transformed at once: 4 MB of windows and spectra stay in the cache
_DEVICE_BLOCK_FRAMES = 1 << 15  # on a GPU, where launches count: 200 MB


@dataclass(frozen=True, kw_only=True)
class LogMelConfig:
    """Settings of the features, with librosa's names."""

    sample_rate: int = 16000
    """Hz; audio of any other rate is resampled to it."""
    n_mels: int = 80
    """Mel bands."""
    n_fft: int = 512
    """Samples of one Fourier transform."""
    win_length: int = 400
    """Samples of the Hann window."""
    hop_length: int = 160
    """Samples between frames; 10 ms at 16 kHz."""
    f_min: float = 0.0
    """Hz, lower edge of the lowest band."""
    f_max: float | None = None
    """Hz, upper edge of the highest band; None for half the sample rate."""

    def __post_init__(self) -> None:
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ConfigError(
                    f"features: {name} is {value}; expected 1 to {most}. Correct the config."
                )
        if self.n_fft < self.win_length:
            raise ConfigError(
                f"features: n_fft is {self.n_fft}, win_length {self.win_length}; expected n_fft "
                "to be at least win_length. Raise n_fft."
            )
        top = self.sample_rate / 2 if self.f_max is None else self.f_max
        if not 0 <= self.f_min < top <= self.sample_rate / 2:
            raise ConfigError(
                f"features: f_min {self.f_min} Hz, f_max {self.f_max} Hz; expected "
                f"0 <= f_min < f_max <= {self.sample_rate / 2:g} Hz. Correct the config."
            )

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of so many samples."""
        return 1 + num_samples // self.hop_length

    @cached_property
    def band_hz(self) -> Float[Tensor, " n_mels"]:
        """Centre frequencies of the mel bands, Hz."""
        top = self.sample_rate / 2 if self.f_max is None else self.f_max
        edges = _to_hz(np.linspace(_to_mel(self.f_min), _to_mel(top), self.n_mels + 2))
        return torch.from_numpy(edges[1:-1]).float()

    @property
    def frame_shift(self) -> float:
        """Seconds between frames."""
        return self.hop_length / self.sample_rate


_LINEAR_TO, _HZ_A_MEL, _LOG_STEP = 1000.0, 200.0 / 3, math.log(6.4) / 27
"""Slaney's mel: linear up to 1 kHz, logarithmic above."""


def _to_mel(hz: float) -> float:
    if hz < _LINEAR_TO:
        return hz / _HZ_A_MEL
    return _LINEAR_TO / _HZ_A_MEL + math.log(hz / _LINEAR_TO) / _LOG_STEP


def _to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _LINEAR_TO * np.exp(_LOG_STEP * (mel - _LINEAR_TO / _HZ_A_MEL))
    return np.where(mel < _LINEAR_TO / _HZ_A_MEL, mel * _HZ_A_MEL, above)


class LogMel(nn.Module):
    """Waveforms to log-mel features.

    Frames are centred on multiples of ``hop_length`` and see zeros beyond both ends of their own
    utterance, so that padding in a batch changes nothing. Equals
    ``log(librosa.feature.melspectrogram(..., pad_mode="constant"))``. On a CPU this is about twice
    as fast as torchaudio's transform: it copies no window of zeros and takes no square roots.

    Raises:
        ConfigError: Some mel bands would be empty.
    """

    def __init__(self, config: LogMelConfig):
        super().__init__()
        self.config = config
        with warnings.catch_warnings():  # of bands that are empty: an error, below
            warnings.simplefilter("ignore")
            bands = torchaudio.functional.melscale_fbanks(
                n_freqs=config.n_fft // 2 + 1,
                f_min=config.f_min,
                f_max=config.sample_rate / 2 if config.f_max is None else config.f_max,
                n_mels=config.n_mels,
                sample_rate=config.sample_rate,
                norm="slaney",
                mel_scale="slaney",
            )
        empty = int((bands.amax(dim=0) == 0).sum())
        if empty:
            raise ConfigError(
                f"features: with n_mels {config.n_mels} and n_fft {config.n_fft} at "
                f"{config.sample_rate} Hz, {empty} mel bands are empty; expected a Fourier bin in "
                "each. Lower n_mels or raise n_fft."
            )
        self.window: Tensor
        self.bands: Tensor
        self.register_buffer("window", torch.hann_window(config.win_length), persistent=False)
        # Each row twice: for the real and the imaginary part of a Fourier bin.
        self.register_buffer("bands", bands.repeat_interleave(2, dim=0), persistent=False)

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames n_mels"], Int[Tensor, " batch"]]:
        """Features and their lengths in frames; frames past an utterance's length are zero."""
        config = self.config
        positions = torch.arange(waveform.shape[1], device=waveform.device)
        waveform = waveform.masked_fill(positions >= lengths[:, None], 0.0)
        # librosa centres the window in the n_fft samples; only the window's own are cut out here.
        before = config.n_fft // 2 - (config.n_fft - config.win_length) // 2
        padded = nn.functional.pad(waveform, (before, config.win_length))
        frames = padded.unfold(1, config.win_length, config.hop_length)
        frames = frames[:, : config.num_frames(waveform.shape[1])]
        at_once = _BLOCK_FRAMES if waveform.device.type == "cpu" else _DEVICE_BLOCK_FRAMES
        block = max(1, at_once // max(1, waveform.shape[0]))
        parts = [self._log_mel(part) for part in torch.split(frames, block, dim=1)]
        features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        frame_lengths = 1 + lengths // config.hop_length
        places = torch.arange(features.shape[1], device=features.device)
        padding = places >= frame_lengths[:, None]
        return features.masked_fill_(padding[:, :, None], 0.0), frame_lengths

    def _log_mel(self, frames: Tensor) -> Tensor:
        """Log-mel power of frames of ``win_length`` samples."""
        spectrum = torch.fft.rfft(frames * self.window, n=self.config.n_fft)
        power = torch.view_as_real(spectrum).flatten(-2).square_()
        return (power @ self.bands).clamp_(min=FLOOR).log_()


@lru_cache(maxsize=8)
def log_mel_on(config: LogMelConfig, device: torch.device) -> LogMel:
    """The extractor on a device, made when first asked for and kept."""
    return LogMel(config).to(device)


@torch.no_grad()
def compute_log_mel(
    waveform: Float[Tensor, " samples"], config: LogMelConfig
) -> Float[Tensor, "frames n_mels"]:
    """Features of one utterance; the extractor is kept for the next call."""
    lengths = torch.tensor([waveform.shape[0]])
    features: Tensor = log_mel_on(config, waveform.device)(waveform[None], lengths)[0][0]
    return features

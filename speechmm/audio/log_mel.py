"""Log-mel features: natural log of slaney mel power, one frame every ``hop_length`` samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torchaudio
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.errors import ConfigError

FLOOR = 1e-10  # power below which the logarithm is cut


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
        if min(self.sample_rate, self.n_mels, self.hop_length, self.win_length) < 1:
            raise ConfigError(
                "features: sample_rate, n_mels, hop_length, win_length are "
                f"{self.sample_rate}, {self.n_mels}, {self.hop_length}, {self.win_length}; "
                "expected positive numbers. Correct the config."
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

    @property
    def frame_shift(self) -> float:
        """Seconds between frames."""
        return self.hop_length / self.sample_rate


class LogMel(nn.Module):
    """Waveforms to log-mel features.

    Frames are centred on multiples of ``hop_length`` and see zeros beyond both ends, so zero
    padding in a batch changes nothing. Equals ``log(librosa.feature.melspectrogram(
    pad_mode="constant"))``.
    """

    def __init__(self, config: LogMelConfig):
        super().__init__()
        self.config = config
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            win_length=config.win_length,
            hop_length=config.hop_length,
            f_min=config.f_min,
            f_max=config.f_max,
            n_mels=config.n_mels,
            power=2.0,
            center=True,
            pad_mode="constant",
            norm="slaney",
            mel_scale="slaney",
        )
        for name, buffer in list(self.mel.named_buffers()):
            owner = self.mel.get_submodule(name.rpartition(".")[0])
            owner.register_buffer(name.rpartition(".")[2], buffer, persistent=False)

    def forward(
        self, waveform: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames n_mels"], Int[Tensor, " batch"]]:
        """Features and their lengths in frames; frames past an utterance's length are zero."""
        power = self.mel(waveform).transpose(1, 2)
        features = power.clamp(min=FLOOR).log()
        frame_lengths = 1 + lengths // self.config.hop_length
        positions = torch.arange(features.shape[1], device=features.device)
        padding = positions[None, :] >= frame_lengths[:, None]
        return features.masked_fill(padding[:, :, None], 0.0), frame_lengths


@lru_cache(maxsize=8)
def _extractor(config: LogMelConfig) -> LogMel:
    return LogMel(config)


@torch.no_grad()
def compute_log_mel(
    waveform: Float[Tensor, " samples"], config: LogMelConfig
) -> Float[Tensor, "frames n_mels"]:
    """Features of one utterance; the extractor is kept for the next call."""
    lengths = torch.tensor([waveform.shape[0]])
    features: Tensor = _extractor(config)(waveform[None], lengths)[0][0]
    return features

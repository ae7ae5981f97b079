"""Encodes waveforms of any lengths: padding, log-mel, encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechmm.audio.log_mel import LogMel
from speechmm.inference.engine.chunks import GPU_LOOKAHEAD_BATCHES, LOOKAHEAD_BATCHES
from speechmm.models.bundle import Bundle
from speechmm.models.readback import to_device, upload
from speechmm.models.speech_text import SpeechEncoding
from speechmm.options import BATCH_SECONDS, GPU_BATCH_SECONDS, GPU_GIGABYTES


class WaveformEncoder:
    """A bundle's features and encoder on one device."""

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = bundle.model.to(self.device).eval()
        self.log_mel = LogMel(bundle.features).to(self.device)

    def batch_samples(self, seconds: float | None) -> int:
        """Samples of a batch of so many seconds; None means what suits the device."""
        if seconds is None:
            seconds = _batch_seconds(self.device)
        return round(seconds * self.log_mel.config.sample_rate)

    @property
    def lookahead(self) -> int:
        """Batches' worth of audio to read before it is sorted by length."""
        return LOOKAHEAD_BATCHES if self.device.type == "cpu" else GPU_LOOKAHEAD_BATCHES

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[Float[Tensor, " _"]]) -> SpeechEncoding:
        """Encodes one batch of mono waveforms at the model's rate."""
        lengths = upload([len(waveform) for waveform in waveforms], self.device)
        padded = to_device(pad_sequence(list(waveforms), batch_first=True), self.device)
        features, frame_lengths = self.log_mel(padded, lengths)
        return self.model.encode_speech(features, frame_lengths, (padded, lengths))


def _batch_seconds(device: torch.device) -> float:
    """Audio per batch that suits a device: as a search takes as long for few as for many, all it holds."""
    if device.type == "cpu":
        return BATCH_SECONDS
    if device.type != "cuda":
        return GPU_BATCH_SECONDS
    gigabytes = torch.cuda.get_device_properties(device).total_memory / 1e9
    return GPU_BATCH_SECONDS * max(1.0, gigabytes / GPU_GIGABYTES)

"""Encodes features to frames at a lower rate: the protocol, and the encoder trained from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.models.front_end import ConvFrontEnd, length_mask
from speechmm.models.transformer import TransformerEncoder


@dataclass
class Encoded:
    """The frames of a batch."""

    frames: Float[Tensor, "batch enc_frames d_model"]
    """What stands at padded frames is meaningless."""
    lengths: Int[Tensor, " batch"]
    """Valid frames; of an encoder that :class:`HearsSilence`, those of the silence, too."""
    middle: Float[Tensor, "batch enc_frames d_model"]
    """From half-way up, before :attr:`Encoder.norm`."""


@runtime_checkable
class Encoder(Protocol):
    """What the heads of a model stand on; an implementation is an ``nn.Module`` besides.

    Inputs are (batch, positions, channels): normalised log-mel features, or a waveform as one channel.
    Those of waveforms are :class:`ReadsWaveforms`, too.
    Padding must not change the valid frames of an utterance.
    """

    @property
    def width(self) -> int:
        """Of a frame: the ``d_model`` of the heads."""
        ...

    @property
    def subsampling(self) -> int:
        """Feature frames (10 ms) per encoder frame: frame ``j`` is centred on ``j * subsampling``."""
        ...

    @property
    def norm(self) -> nn.Module:
        """The norm that ends the encoder, for those who read the middle frames."""
        ...

    def __call__(
        self, inputs: Float[Tensor, "batch positions channels"], lengths: Int[Tensor, " batch"]
    ) -> Encoded:
        """Frames of padded inputs of which ``lengths`` positions are valid."""
        ...


@runtime_checkable
class OwnScale(Protocol):
    """An encoder that was trained on features scaled in a way of its own."""

    def scaled(
        self, features: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames n_mels"]:
        """Natural-log mel power as the encoder reads it; zero at padding."""
        ...


@runtime_checkable
class SecondEntrance(Protocol):
    """An encoder whose layers also take what another front end makes, such as stretched text."""

    def encode_frames(
        self,
        vectors: Float[Tensor, "batch enc_frames d_model"],
        lengths: Int[Tensor, " batch"],
    ) -> Encoded:
        """Frames of vectors that enter behind the audio front end, at the rate it gives."""
        ...


@runtime_checkable
class ReadsWaveforms(Protocol):
    """An encoder of the waveform; the alignment head stands on log-mel features beside it."""

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, Hz."""
        ...

    def __call__(
        self,
        inputs: Float[Tensor, "batch samples 1"],
        lengths: Int[Tensor, " batch"],
        mask: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Encoded:
        """Frames; ``mask`` changes vectors (batch, frames, width) of so many valid frames, in training."""
        ...


@runtime_checkable
class HearsSilence(Protocol):
    """An encoder that may read silence after an utterance, too, so that a decoder hears the end."""

    @property
    def reads_silence(self) -> bool:
        """Whether ``Encoded.lengths`` go beyond the utterance."""
        ...


@runtime_checkable
class Layered(Protocol):
    """An encoder that can be cut below one of its layers: what lies below may be computed once and kept."""

    @property
    def depth(self) -> int:
        """Its layers."""
        ...

    def parts_below(self, layers: int) -> list[nn.Module]:
        """All that decides what enters layer ``layers``."""
        ...

    def below(
        self,
        inputs: Float[Tensor, "batch positions channels"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> tuple[Float[Tensor, "batch enc_frames width"], Int[Tensor, " batch"]]:
        """What enters layer ``layers``, and how many frames of each are valid."""
        ...

    def above(
        self,
        frames: Float[Tensor, "batch enc_frames width"],
        lengths: Int[Tensor, " batch"],
        layers: int,
    ) -> Encoded:
        """The rest. Cut above its middle, ``Encoded.middle`` is what entered."""
        ...


class ConvTransformerEncoder(nn.Module):
    """Convolutions over log-mel features, then Transformer or Conformer layers."""

    def __init__(self, front_end: ConvFrontEnd, stack: TransformerEncoder):
        super().__init__()
        self.front_end = front_end
        self.stack = stack

    @property
    def width(self) -> int:
        """Of a frame."""
        return self.stack.d_model

    @property
    def subsampling(self) -> int:
        """Feature frames per encoder frame."""
        return self.front_end.subsampling

    @property
    def norm(self) -> nn.Module:
        """The norm after the last layer."""
        return self.stack.norm

    def forward(
        self, inputs: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Encoded:
        """Frames of normalised log-mel features."""
        return self.encode_frames(*self.front_end(inputs, lengths))

    def encode_frames(
        self,
        vectors: Float[Tensor, "batch enc_frames d_model"],
        lengths: Int[Tensor, " batch"],
    ) -> Encoded:
        """Frames of what a front end made: the audio's, or another one."""
        frames, middle = self.stack(vectors, length_mask(lengths, vectors.shape[1]))
        return Encoded(frames, lengths, middle)

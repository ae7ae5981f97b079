"""Speaks: durations, pitch, energy and log-mel of a text, around the layers that encode speech.

Non-autoregressive, after Ren et al. 2021, "FastSpeech 2" (2006.04558); the differences stand in
docs/decisions/0022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.models.alignment_head import between_frames
from speechmm.models.dropout import Dropout
from speechmm.models.front_end import length_mask
from speechmm.models.precision import full_precision
from speechmm.models.text_front_end import TextFrontEnd, stretch
from speechmm.models.transformer import FeedForward

SPEECH_MEL = LogMelConfig(sample_rate=22050, n_fft=1024, win_length=1024, hop_length=256)
"""Log-mel that is spoken where nothing else is said: the settings most vocoders are trained with."""
LONGEST_TOKEN_SECONDS = 2.0
"""No token lasts longer, whatever a model predicts that has hardly been trained."""
LOUDEST = 12.0
"""Natural-log mel power that no sound of full scale exceeds, and no prediction either."""
PLACE_FEATURES = 4
PROSODY = 2
"""Pitch and energy."""
TOKEN_KERNEL, MEL_KERNEL = 5, 9


@dataclass(frozen=True, kw_only=True)
class VoiceConfig:
    """What a model needs to know to speak."""

    mel: LogMelConfig = SPEECH_MEL
    """Log-mel that is spoken; that which is recognised may be another."""
    speakers: tuple[str, ...] = ("",)
    """Who can be spoken as; "" where the corpus does not name its one speaker."""
    token_layers: int = 3
    """Convolutions over the tokens of a text."""
    mel_layers: int = 4
    """Convolutions over frames of log-mel."""

    def __post_init__(self) -> None:
        if not self.speakers or self.token_layers < 1 or self.mel_layers < 1:
            raise ConfigError(
                f"voice: {len(self.speakers)} speakers, {self.token_layers} token_layers, "
                f"{self.mel_layers} mel_layers; expected one or more of each. Correct the config."
            )


class ConvBlock(nn.Module):
    """Depthwise convolution, norm and feed-forward, with a residual.

    Source: Liu et al. 2022, "A ConvNet for the 2020s", figure 4, in one dimension.
    """

    def __init__(self, width: int, kernel: int, dropout: float):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, 2 * width)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch positions width"],
        keep: Float[Tensor, "batch positions 1"],
    ) -> Float[Tensor, "batch positions width"]:
        """Mixes neighbours; ``keep`` is 0 at padding, which nothing is mixed with."""
        mixed = self.depthwise((x * keep).transpose(1, 2)).transpose(1, 2)
        update: Tensor = self.feed_forward(self.norm(mixed))
        out: Tensor = x + self.dropout(update)
        return out


class ConvStack(nn.Module):
    """Blocks one after the other, with a norm at either end."""

    def __init__(self, width: int, layers: int, kernel: int, dropout: float):
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvBlock(width, kernel, dropout) for _ in range(layers))
        self.last_norm = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "batch positions width"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch positions width"]:
        """Vectors of valid positions; what stands at padding is meaningless."""
        x = self.first_norm(x)
        keep = length_mask(lengths, x.shape[1])[:, :, None].to(x.dtype)
        for block in self.blocks:
            x = block(x, keep)
        out: Tensor = self.last_norm(x)
        return out


@dataclass(frozen=True)
class TimedTokens:
    """Tokens with the frames of log-mel that they last."""

    durations: Float[Tensor, "batch tokens"]
    """Frames, whole or not; 0 for tokens that are left out, and for padding."""
    lengths: Int[Tensor, " batch"]
    """Frames of each text: what its durations add up to."""
    longest: int
    """The largest of them or more."""

    def shares(self) -> Float[Tensor, "batch frames tokens"]:
        """The share that each token has in each frame."""
        return stretch(self.durations, self.lengths, self.longest, 1)


class Voice(nn.Module):
    """The head that speaks: from tokens and what the encoder makes of them to log-mel."""

    def __init__(self, config: VoiceConfig, width: int, vocab_size: int, dropout: float):
        """Random weights.

        Args:
            config: What is spoken.
            width: Of the encoder's frames.
            vocab_size: Tokens of alignment.
            dropout: Share of zeroed updates while training.
        """
        super().__init__()
        self.config = config
        self.text = TextFrontEnd(vocab_size, width)
        self.embedding = nn.Embedding(vocab_size, width)
        self.speakers = nn.Embedding(len(config.speakers), width)
        self.token_stack = ConvStack(width, config.token_layers, TOKEN_KERNEL, dropout)
        self.duration_block = ConvStack(width, 1, TOKEN_KERNEL, dropout)
        self.duration = nn.Linear(width, 1)
        self.heard = nn.Linear(width, width)
        self.prosody_stack = ConvStack(width, 2, TOKEN_KERNEL, dropout)
        self.prosody = nn.Linear(width, PROSODY)
        self.from_prosody = nn.Linear(PROSODY, width)
        self.place = nn.Linear(PLACE_FEATURES, width)
        self.mel_stack = ConvStack(width, config.mel_layers, MEL_KERNEL, dropout)
        self.mel = nn.Linear(width, config.mel.n_mels)
        self.mel_mean: Tensor
        self.mel_std: Tensor
        self.prosody_mean: Tensor
        self.prosody_std: Tensor
        self.register_buffer("mel_mean", torch.zeros(config.mel.n_mels))
        self.register_buffer("mel_std", torch.ones(config.mel.n_mels))
        self.register_buffer("prosody_mean", torch.zeros(PROSODY))
        self.register_buffer("prosody_std", torch.ones(PROSODY))

    def tokens(
        self,
        tokens: Int[Tensor, "batch tokens"],
        lengths: Int[Tensor, " batch"],
        speakers: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch tokens width"]:
        """Vectors of tokens among their neighbours, as a speaker says them.

        Args:
            tokens: Of alignment.
            lengths: Valid tokens.
            speakers: Their rows in the config; -1 is the mean of all.
        """
        known = self.speakers.weight
        voices = torch.cat([known, known.mean(dim=0, keepdim=True)])
        places = torch.where(speakers < 0, len(known), speakers)
        x = self.embedding(tokens) + voices[places][:, None, :]
        out: Tensor = self.token_stack(x, lengths)
        return out

    def log_durations(
        self, vectors: Float[Tensor, "batch tokens width"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch tokens"]:
        """``log(1 + frames)`` of every token, predicted from the text alone."""
        out: Tensor = self.duration(self.duration_block(vectors, lengths))[:, :, 0]
        return out

    def durations(
        self, log_durations: Float[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens"]:
        """Frames of predicted logarithms, none of them beyond reason."""
        most = LONGEST_TOKEN_SECONDS / self.config.mel.frame_shift
        return log_durations.float().exp().sub(1.0).clamp(0.0, most)

    def frames(
        self,
        encoded: Float[Tensor, "batch enc_frames width"],
        enc_lengths: Int[Tensor, " batch"],
        longest: int,
        factor: int | float,
    ) -> Float[Tensor, "batch frames width"]:
        """What the encoder made of the stretched text, at the rate of the log-mel.

        Args:
            encoded: Of it.
            enc_lengths: Valid frames.
            longest: Frames of log-mel.
            factor: Of these per encoder frame.
        """
        places = torch.arange(longest, device=encoded.device) / factor
        whole = places.floor()
        weight = (places - whole).to(encoded.dtype)
        out: Tensor = self.heard(between_frames(encoded, enc_lengths, whole.long(), weight))
        return out

    def predict_prosody(
        self,
        vectors: Float[Tensor, "batch tokens width"],
        lengths: Int[Tensor, " batch"],
        frames: Float[Tensor, "batch frames width"],
        shares: Float[Tensor, "batch frames tokens"],
    ) -> Float[Tensor, "batch tokens 2"]:
        """Pitch and energy of every token, in standard deviations from the mean."""
        sums = shares.to(frames.dtype).transpose(1, 2) @ frames
        means = sums / shares.sum(dim=1).clamp(min=1.0)[:, :, None].to(frames.dtype)
        out: Tensor = self.prosody(self.prosody_stack(vectors + means, lengths))
        return out

    def decode(
        self,
        vectors: Float[Tensor, "batch tokens width"],
        prosody: Float[Tensor, "batch tokens 2"],
        frames: Float[Tensor, "batch frames width"],
        timed: TimedTokens,
        shares: Float[Tensor, "batch frames tokens"],
    ) -> Float[Tensor, "batch frames n_mels"]:
        """Normalised log-mel: of the token in each frame, its prosody, the place in it, and the encoder."""
        dtype = frames.dtype
        said = vectors + self.from_prosody(prosody.to(dtype))
        places = place_in_token(timed.durations, shares).to(dtype)
        x = shares.to(dtype) @ said + frames + self.place(places)
        out: Tensor = self.mel(self.mel_stack(x, timed.lengths))
        return out

    def log_mel(
        self, normalised: Float[Tensor, "batch frames n_mels"]
    ) -> Float[Tensor, "batch frames n_mels"]:
        """Natural-log mel power of what :meth:`decode` gives."""
        return (normalised.float() * self.mel_std + self.mel_mean).clamp(max=LOUDEST)

    def normalised(
        self, log_mel: Float[Tensor, "batch frames n_mels"]
    ) -> Float[Tensor, "batch frames n_mels"]:
        """The reverse of :meth:`log_mel`."""
        return (log_mel - self.mel_mean) / self.mel_std


def place_in_token(
    durations: Float[Tensor, "batch tokens"], shares: Float[Tensor, "batch frames tokens"]
) -> Float[Tensor, "batch frames 4"]:
    """Where each frame is in its token: the share that is over, and logarithms of three lengths.

    The lengths are those of the token, of what is over and of what is to come, in frames.
    """
    with full_precision(shares.device):
        ends = durations.cumsum(dim=1)
        described = torch.stack([ends - durations, durations], dim=2).to(shares.dtype)
        start, length = (shares @ described).unbind(dim=2)
    middle = torch.arange(shares.shape[1], device=shares.device) + 0.5
    over = (middle[None, :] - start).clamp(min=0.0)
    over = torch.minimum(over, length)
    left = length - over
    share = over / length.clamp(min=1.0)
    return torch.stack([share, length.log1p(), over.log1p(), left.log1p()], dim=2)


def token_means(
    values: Float[Tensor, "batch frames"],
    weights: Float[Tensor, "batch frames"],
    shares: Float[Tensor, "batch frames tokens"],
) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
    """Weighted mean of each token's frames (0 where nothing has weight), and the sum of their weights."""
    with full_precision(shares.device):
        both = torch.stack([values * weights, weights], dim=1) @ shares
    sums, total = both.unbind(dim=1)
    return torch.where(total > 1e-4, sums / total.clamp(min=1e-4), 0.0), total


def frame_energy(log_mel: Float[Tensor, "*lead n_mels"]) -> Float[Tensor, "*lead"]:
    """Natural log of a frame's power, averaged over the bands."""
    return log_mel.logsumexp(dim=-1) - math.log(log_mel.shape[-1])

"""Says a text with the head that speaks: through the encoder's layers to log-mel."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.text_encoding import encode_stretched
from speechmm.models.voice import TimedTokens


@dataclass(frozen=True)
class Said:
    """What a model says, and what it foresees of it."""

    mel: Float[Tensor, "batch frames n_mels"]
    """Normalised log-mel in float32; what stands at padding is meaningless."""
    log_durations: Float[Tensor, "batch tokens"]
    """Predicted ``log(1 + frames)``."""
    prosody: Float[Tensor, "batch tokens 2"]
    """Predicted pitch and energy, in standard deviations from the mean."""


def frames_per_encoder_frame(model: SpeechTextModel, features: LogMelConfig) -> float:
    """Frames of the log-mel that is spoken per encoder frame.

    Args:
        model: Has a voice.
        features: Of recognition, which say how long an encoder frame is.
    """
    assert model.voice is not None
    return model.subsampling * features.frame_shift / model.voice.config.mel.frame_shift


def speak(
    model: SpeechTextModel,
    tokens: Int[Tensor, "batch tokens"],
    lengths: Int[Tensor, " batch"],
    speakers: Int[Tensor, " batch"],
    timed: TimedTokens,
    *,
    factor: float,
    prosody: Float[Tensor, "batch tokens 2"] | None = None,
) -> Said:
    """Log-mel of tokens that last so long.

    Args:
        model: Has a voice.
        tokens: Of alignment.
        lengths: Valid tokens.
        speakers: Their places in the voice's config; -1 for the mean of all.
        timed: How long each token lasts.
        factor: Of :func:`frames_per_encoder_frame`.
        prosody: Pitch and energy to speak with; None for those that are predicted.
    """
    voice = model.voice
    assert voice is not None
    vectors = voice.tokens(tokens, lengths, speakers)
    encoding = encode_stretched(
        model,
        voice.text,
        tokens,
        timed.durations,
        timed.lengths,
        longest=timed.longest,
        factor=factor,
    )
    frames = voice.frames(encoding.encoded, encoding.enc_lengths, timed.longest, factor)
    shares = timed.shares()
    foreseen = voice.predict_prosody(vectors, lengths, frames, shares)
    heard = foreseen if prosody is None else prosody
    mel = voice.decode(vectors, heard, frames, timed, shares)
    return Said(mel.float(), voice.log_durations(vectors, lengths), foreseen)

"""Sends stretched texts through the encoder's layers, for whoever trains on them or speaks them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.text_front_end import TextFrontEnd, stretch


def encode_stretched(
    model: SpeechTextModel,
    front_end: TextFrontEnd,
    tokens: Int[Tensor, "batch tokens"],
    durations: Float[Tensor, "batch tokens"],
    frames: Int[Tensor, " batch"],
    *,
    longest: int,
    factor: int | float,
    masked: Tensor | None = None,
) -> SpeechEncoding:
    """Texts as the encoder gives them.

    Args:
        model: Has an encoder with a second entrance.
        front_end: Makes vectors of tokens.
        tokens: Of alignment.
        durations: In proportion.
        frames: That each text lasts, of whatever length.
        longest: The largest of them or more.
        factor: Such frames per encoder frame; for feature frames the encoder's subsampling.
        masked: Tokens that are not seen.
    """
    enc_frames = math.ceil(longest / factor)
    lengths = torch.ceil(frames / factor).long().clamp(max=enc_frames)
    shares = stretch(durations, frames, enc_frames, factor)
    vectors = front_end(tokens, shares, lengths, masked)
    return model.encode_frames(vectors, lengths)

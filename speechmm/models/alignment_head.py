"""Scores of every (10 ms frame, text token) pair, from the shared encoder's two outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.models.front_end import length_mask

LOGIT_SCALE = 0.2  # keeps the scores weak beside the prior until they say something


def upsample_frames(
    encoded: Float[Tensor, "batch enc_frames width"],
    enc_lengths: Int[Tensor, " batch"],
    frames: int,
    factor: int,
) -> Float[Tensor, "batch frames width"]:
    """Linear interpolation from encoder frames back to feature frames.

    Encoder frame ``j`` sits at feature frame ``j * factor``. Past an utterance's last encoder
    frame its value is held, so padding never leaks in.
    """
    position = torch.arange(frames, device=encoded.device)
    last = (enc_lengths - 1).clamp(min=0)[:, None]
    left = torch.minimum((position // factor)[None, :], last)
    right = torch.minimum(left + 1, last)
    weight = ((position % factor).to(encoded.dtype) / factor)[None, :, None]
    width = encoded.shape[-1]
    take_left = encoded.gather(1, left[:, :, None].expand(-1, -1, width))
    take_right = encoded.gather(1, right[:, :, None].expand(-1, -1, width))
    return torch.lerp(take_left, take_right, weight)


class AlignmentHead(nn.Module):
    """Dot products between 10 ms speech vectors and text vectors.

    A speech vector is the upsampled encoder output (what is said around here) plus a shallow
    convolution of the log-mel itself (where exactly it changes). A text vector is made of the
    token's embedding alone, which encoder and decoder share. The text side has no context on
    purpose: with it the forward-sum loss is also low for alignments that give most frames to one
    token and cram the rest into a corner (docs/decisions). Source: Badlani et al. 2022,
    "One TTS Alignment To Rule Them All", section 2.
    """

    def __init__(self, d_model: int, n_mels: int, align_dim: int, subsampling: int):
        super().__init__()
        self.subsampling = subsampling
        self.from_encoder = nn.Linear(d_model, align_dim)
        self.local_in = nn.Conv1d(n_mels, align_dim, 5, padding=2)
        self.local_out = nn.Conv1d(align_dim, align_dim, 3, padding=1)
        self.speech_norm = nn.LayerNorm(align_dim)
        self.from_text = nn.Linear(d_model, align_dim)
        self.text_norm = nn.LayerNorm(align_dim)
        self.scale = LOGIT_SCALE * align_dim**-0.5

    def speech_vectors(
        self,
        encoded: Float[Tensor, "batch enc_frames d_model"],
        enc_lengths: Int[Tensor, " batch"],
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch frames align_dim"]:
        """One vector per feature frame; ``features`` are normalised and zero at padding."""
        frames = features.shape[1]
        keep = length_mask(lengths, frames)[:, None, :].to(features.dtype)
        local = F.silu(self.local_in(features.transpose(1, 2))) * keep
        local = self.local_out(local).transpose(1, 2)
        wide = upsample_frames(self.from_encoder(encoded), enc_lengths, frames, self.subsampling)
        out: Tensor = self.speech_norm(wide + local)
        return out

    def text_vectors(
        self, embedded: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch tokens align_dim"]:
        """One vector per text token; the same token has the same vector everywhere."""
        out: Tensor = self.text_norm(self.from_text(embedded))
        return out

    def forward(
        self,
        speech: Float[Tensor, "batch frames align_dim"],
        text: Float[Tensor, "batch tokens align_dim"],
        token_lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch frames tokens"]:
        """Unnormalised scores; -inf at padded tokens."""
        scores = torch.bmm(speech, text.transpose(1, 2)) * self.scale
        valid = length_mask(token_lengths, text.shape[1])
        masked: Tensor = scores.masked_fill(~valid[:, None, :], float("-inf"))
        return masked

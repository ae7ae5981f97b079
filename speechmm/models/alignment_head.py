"""Scores every token in every 10 ms frame, whatever the frame rate of the encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.models.front_end import length_mask
from speechmm.models.precision import at_least_float32

PRIOR_SHARE = 0.01
"""Weight of one batch in the running label prior, once the first batches have set it."""


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
    weight = (position % factor).to(encoded.dtype) / factor
    return between_frames(encoded, enc_lengths, position // factor, weight)


def between_frames(
    encoded: Float[Tensor, "batch enc_frames width"],
    enc_lengths: Int[Tensor, " batch"],
    whole: Int[Tensor, " frames"],
    weight: Float[Tensor, " frames"],
) -> Float[Tensor, "batch frames width"]:
    """Linear interpolation between encoder frames ``whole`` and the next ones, which have ``weight``.

    Past an utterance's last encoder frame its value is held.
    """
    last = (enc_lengths - 1).clamp(min=0)[:, None]
    left = torch.minimum(whole[None, :], last)
    right = torch.minimum(left + 1, last)
    width = encoded.shape[-1]
    take_left = encoded.gather(1, left[:, :, None].expand(-1, -1, width))
    take_right = encoded.gather(1, right[:, :, None].expand(-1, -1, width))
    return torch.lerp(take_left, take_right, weight[None, :, None])


class AlignmentHead(nn.Module):
    """Two views of one frame, each with log-probabilities over the vocabulary, silence included.

    The *local* view sees 105 ms around the frame and nothing else. It learns from the texts alone,
    by the forward-sum loss with a label prior, and cannot cheat: it has no way to count tokens.
    The *context* view adds the upsampled encoder output and learns from the local view's soft
    alignment, frame by frame. The reasons, with measurements: docs/decisions/0008.
    Sources: Badlani et al. 2022, "One TTS Alignment To Rule Them All" (forward sum); Zeyer et al.
    2021, "Why does CTC result in peaky behavior?", and Huang et al. 2024 (label priors).
    """

    def __init__(
        self, d_model: int, n_mels: int, align_dim: int, subsampling: int, vocab_size: int
    ):
        super().__init__()
        self.subsampling = subsampling
        self.local_in = nn.Conv1d(n_mels, align_dim, 5, padding=2)
        self.local_in_norm = nn.LayerNorm(align_dim)
        self.local_mid = nn.Conv1d(align_dim, align_dim, 5, padding=2)
        self.local_mid_norm = nn.LayerNorm(align_dim)
        self.local_out = nn.Linear(align_dim, vocab_size)
        self.from_encoder = nn.Linear(d_model, align_dim)
        self.context_norm = nn.LayerNorm(align_dim)
        self.context_out = nn.Linear(align_dim, vocab_size)
        self.label_prior: Tensor
        self.prior_batches: Tensor
        self.register_buffer("label_prior", torch.full((vocab_size,), 1.0 / vocab_size))
        self.register_buffer("prior_batches", torch.zeros(()))

    def local_vectors(
        self,
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch frames align_dim"]:
        """One vector per feature frame; ``features`` are normalised and zero at padding."""
        features = features.to(self.local_in.weight.dtype)
        keep = length_mask(lengths, features.shape[1])[:, :, None].to(features.dtype)
        x = F.silu(self.local_in(features.transpose(1, 2)).transpose(1, 2))
        x = self.local_in_norm(x) * keep
        update = F.silu(self.local_mid(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = x + self.local_mid_norm(update)
        return out

    def local_log_probs(
        self, local: Float[Tensor, "batch frames align_dim"]
    ) -> Float[Tensor, "batch frames vocab"]:
        """Of the tokens in each frame, by the sound around it alone."""
        logits: Tensor = self.local_out(local)
        return at_least_float32(logits).log_softmax(dim=-1)

    def context_log_probs(
        self,
        local: Float[Tensor, "batch frames align_dim"],
        encoded: Float[Tensor, "batch enc_frames d_model"],
        enc_lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch frames vocab"]:
        """Of the tokens in each frame, given the whole utterance."""
        wide = upsample_frames(
            self.from_encoder(encoded), enc_lengths, local.shape[1], self.subsampling
        )
        logits: Tensor = self.context_out(F.silu(self.context_norm(wide + local)))
        return at_least_float32(logits).log_softmax(dim=-1)

    def forward(
        self,
        features: Float[Tensor, "batch frames n_mels"],
        lengths: Int[Tensor, " batch"],
        encoded: Float[Tensor, "batch enc_frames d_model"],
        enc_lengths: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch frames vocab"], Float[Tensor, "batch frames vocab"]]:
        """Log-probabilities of the local view and of the context view."""
        local = self.local_vectors(features, lengths)
        return (
            self.local_log_probs(local),
            self.context_log_probs(local, encoded, enc_lengths),
        )

    @torch.no_grad()
    def update_prior(self, marginal: Float[Tensor, " vocab"]) -> None:
        """Moves the running label prior towards the mean posterior of one training batch."""
        self.prior_batches += 1
        share = self.prior_batches.reciprocal().clamp(min=PRIOR_SHARE)
        self.label_prior.lerp_(marginal.to(self.label_prior.dtype), share)

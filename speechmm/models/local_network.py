"""Scores the classes of each frame by the sound around it alone: two convolutions over log-mel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.models.front_end import length_mask

KERNEL = 5
"""Frames that each convolution sees where nothing else is said."""


class LocalNetwork(nn.Module):
    """Log-probabilities of classes, such as the states of phones, in each frame.

    It sees some frames around (nine with kernels of five) and nothing else, so it cannot count what came
    before, and little speech is
    enough. The shape is that of the alignment head's local view; products of windows in place of
    convolutions are faster on a CPU.
    """

    def __init__(
        self,
        n_mels: int,
        classes: int,
        *,
        width: int = 128,
        kernel: int = KERNEL,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.inner = nn.Linear(n_mels * kernel, width)
        self.inner_norm = nn.LayerNorm(width)
        self.outer = nn.Linear(width * kernel, width)
        self.outer_norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, classes)
        self.dropout = nn.Dropout(dropout)
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.zeros(classes))

    def forward(
        self, features: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frames classes"]:
        """Log-probabilities of each frame; ``features`` are zero at padding."""
        keep = length_mask(lengths, features.shape[1])[:, :, None].to(features.dtype)
        x = self.inner_norm(F.silu(self.inner(_windows(features * keep, self.kernel)))) * keep
        x = x + self.dropout(self.outer_norm(F.silu(self.outer(_windows(x, self.kernel)))))
        logits: Tensor = self.out(self.dropout(x))
        return logits.log_softmax(dim=-1)


def _windows(
    x: Float[Tensor, "batch frames width"], kernel: int
) -> Float[Tensor, "batch frames wide"]:
    """Each frame with its neighbours beside it; zeros beyond the ends."""
    padded = F.pad(x, (0, 0, kernel // 2, kernel // 2))
    return torch.cat([padded[:, k : k + x.shape[1]] for k in range(kernel)], dim=-1)

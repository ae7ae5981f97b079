"""Multi-head attention with the weight names that pretrained encoders are published with."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Scaled dot-product attention of a sequence to itself.

    Args:
        width: Of the vectors.
        heads: Must divide the width.
        key_bias: Whether keys have a bias; Whisper's have none.
    """

    def __init__(self, width: int, heads: int, *, key_bias: bool = True):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=key_bias)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "batch frames width"],
        mask: Bool[Tensor, "batch frames"],
        bias: Float[Tensor, "batch heads frames frames"] | None = None,
    ) -> Float[Tensor, "batch frames width"]:
        """Attends to the frames that are True in ``mask``; ``bias`` is added to the scores."""
        keep = mask[:, None, None, :]
        scores = keep if bias is None else bias.masked_fill(~keep, float("-inf"))
        out = nn.functional.scaled_dot_product_attention(
            self._split(self.q_proj(x)),
            self._split(self.k_proj(x)),
            self._split(self.v_proj(x)),
            attn_mask=scores,
        )
        joined: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Tensor) -> Float[Tensor, "batch heads frames part"]:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

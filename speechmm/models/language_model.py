"""Predicts a tokenizer's pieces from those before: a small language model for shallow fusion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from speechmm.models.kv_cache import DecoderCache
from speechmm.models.transformer import MOST_LAYERS, check_dimensions, check_sizes
from speechmm.models.transformer_decoder import TransformerDecoder


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Dimensions of a LanguageModel. The vocabulary size comes from the tokenizer file."""

    d_model: int = 128
    """Width of its vectors."""
    heads: int = 4
    """Attention heads; must divide d_model into even parts."""
    ff_dim: int = 512
    """Inner width of the feed-forward layers."""
    layers: int = 2
    """Layers of the stack."""
    dropout: float = 0.1
    """Share of zeroed residual updates while training."""

    def __post_init__(self) -> None:
        check_sizes(self, "d_model", "heads", "ff_dim")
        check_sizes(self, "layers", most=MOST_LAYERS)
        check_dimensions(self.d_model, self.heads, self.dropout)


class LanguageModel(nn.Module):
    """Causal Transformer layers over a tokenizer's pieces, without cross-attention."""

    def __init__(self, config: LanguageModelConfig, *, vocab_size: int):
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.start_vector = nn.Parameter(0.02 * torch.randn(config.d_model))
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        self.stack = TransformerDecoder(
            d_model=config.d_model,
            heads=config.heads,
            ff_dim=config.ff_dim,
            layers=config.layers,
            dropout=config.dropout,
            cross=False,
        )
        self.output = nn.Linear(config.d_model, vocab_size)

    def forward(
        self, tokens: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch positions vocab_size"]:
        """Logits of the first token, and of the one after each prefix (tokens + 1 rows)."""
        first = self.start_vector.expand(tokens.shape[0], 1, -1)
        out: Tensor = self.output(
            self.stack(torch.cat([first, self.embedding(tokens)], dim=1)).vectors
        )
        return out

    def start(self, batch: int) -> DecoderCache:
        """The state of ``batch`` empty texts."""
        return self.stack.start(batch)

    def step(
        self, tokens: Int[Tensor, " rows"] | None, cache: DecoderCache
    ) -> Float[Tensor, "rows vocab_size"]:
        """Logits after one more token each; the first call passes None."""
        first = tokens is None
        x = self.start_vector.expand(cache.batch, -1) if first else self.embedding(tokens)
        out: Tensor = self.output(self.stack.step(x, cache))
        return out

    def num_parameters(self) -> int:
        """Trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

"""Writes tokens one after the other, by attention to the encoder frames; the first says what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.errors import ConfigError
from speechmm.models.kv_cache import DecoderCache
from speechmm.models.transformer import DecoderOutput, TransformerDecoder


@dataclass
class Decoded:
    """What the decoder gives for all positions of given texts at once."""

    logits: Float[Tensor, "batch positions vocab_size"]
    log_attention: Float[Tensor, "batch positions enc_frames"] | None = None
    """Of the first head of the last layer to the encoder frames, where asked for."""


class TextDecoder(nn.Module):
    """Token embedding, tags, Transformer layers and the projection to the vocabulary.

    A tag is the first input, a learned vector that names the task: what is asked of the decoder.
    """

    def __init__(self, stack: TransformerDecoder, *, vocab_size: int, tags: Sequence[str]):
        """Takes the layers; embedding, projection and tags are random, the tags drawn last.

        Args:
            stack: Layers with cross-attention.
            vocab_size: Tokens that it writes.
            tags: Names of the tasks that generate text.
        """
        super().__init__()
        self.names = tuple(tags)
        self.embedding = nn.Embedding(vocab_size, stack.d_model)
        self.stack = stack
        self.output = nn.Linear(stack.d_model, vocab_size)
        self.tags = nn.Embedding(len(self.names), stack.d_model)

    def tag(self, name: str) -> Float[Tensor, " d_model"]:
        """The first input for a task.

        Raises:
            ConfigError: The model was not trained on this task.
        """
        if name not in self.names:
            raise ConfigError(
                f"decoder: the model has no task {name!r}; expected one of "
                f"{', '.join(self.names)}. Choose one of these, or train it."
            )
        return self.tags.weight[self.names.index(name)]

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        frames: Float[Tensor, "batch enc_frames d_model"],
        mask: Bool[Tensor, "batch enc_frames"],
        tag: str,
        *,
        with_attention: bool = False,
    ) -> Decoded:
        """Teacher forcing: logits after the tag and after each prefix (tokens + 1 positions)."""
        first = self.tag(tag).expand(tokens.shape[0], 1, -1)
        prefixes = torch.cat([first, self.embedding(tokens)], dim=1)
        output: DecoderOutput = self.stack(prefixes, frames, mask, with_attention=with_attention)
        return Decoded(self.output(output.vectors), output.log_attention)

    def start(
        self,
        frames: Float[Tensor, "batch enc_frames d_model"],
        mask: Bool[Tensor, "batch enc_frames"],
    ) -> DecoderCache:
        """The cache of a new search, with cross-attention keys and values projected once."""
        return self.stack.start(frames.shape[0], frames, mask)

    def step(
        self, tokens: Int[Tensor, " rows"] | None, cache: DecoderCache, tag: str
    ) -> Float[Tensor, "rows vocab_size"]:
        """Logits after one more token per hypothesis; the first call passes None (the tag)."""
        x = self.tag(tag).expand(cache.batch, -1) if tokens is None else self.embedding(tokens)
        out: Tensor = self.output(self.stack.step(x, cache))
        return out

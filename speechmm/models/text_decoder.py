"""Writes tokens one after the other, by attention to the encoder frames; the first says what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.errors import ConfigError
from speechmm.models.kv_cache import DecoderCache
from speechmm.models.precision import at_least_float32
from speechmm.models.transformer_decoder import DecoderOutput, TransformerDecoder
from speechmm.text.languages import languages_of, tag_of

Tag = str | Int[Tensor, " batch"]
"""A tag by its name, or the place of each row's tag among those of the decoder."""


@dataclass
class Decoded:
    """What the decoder gives for all positions of given texts at once."""

    logits: Float[Tensor, "batch positions vocab_size"]
    log_attention: Float[Tensor, "batch positions enc_frames"] | None = None
    """Of the first head of the last layer to the encoder frames, where asked for."""


class TextDecoder(nn.Module):
    """Token embedding, tags, Transformer layers and the projection to the vocabulary.

    A tag is what comes before the text: a learned vector that names the task, what is asked of the
    decoder, or several, as in Whisper's prompt. A task may have one for each language
    (``speechmm.text.languages``); which one is spoken, the decoder tells by the vector it gives for the
    task's tag without a language, of several for the first.
    """

    def __init__(
        self, stack: TransformerDecoder, *, vocab_size: int, tags: Sequence[str], prompt: int = 1
    ):
        """Takes the layers; embedding, projection and tags are random, the tags drawn last.

        Args:
            stack: Layers with cross-attention.
            vocab_size: Tokens that it writes.
            tags: Names of the tasks that generate text.
            prompt: Vectors of a tag. Of several the first is the same for all languages, the second the
                language's.
        """
        super().__init__()
        self.names = tuple(tags)
        self.prompt = prompt
        self.embedding = nn.Embedding(vocab_size, stack.d_model)
        self.stack = stack
        self.output = nn.Linear(stack.d_model, vocab_size)
        self.tags = nn.Embedding(len(self.names), prompt * stack.d_model)

    def tag(self, name: str) -> Float[Tensor, " prompt_d_model"]:
        """What comes before a text for a task: its vectors one after the other.

        Raises:
            ConfigError: The model was not trained on this task.
        """
        if name not in self.names:
            raise ConfigError(
                f"decoder: the model has no task {name!r}; expected one of "
                f"{', '.join(self.names)}. Choose one of these, or train it."
            )
        return self.tags.weight[self.names.index(name)]

    def first(self, tag: Tag, rows: int) -> Float[Tensor, "batch prompt d_model"]:
        """What comes before the text of each row."""
        if isinstance(tag, str):
            return self.tag(tag).view(1, self.prompt, -1).expand(rows, -1, -1)
        vectors: Tensor = self.tags(tag)
        return vectors.view(len(vectors), self.prompt, -1)

    def tags_of(self, task: str) -> range:
        """Where the tags of a task's languages are among all tags: one after the other.

        Raises:
            ConfigError: The model was not trained on this task.
        """
        known = languages_of(task, self.names)
        if not known:
            self.tag(task)
            return range(0)
        first = self.names.index(tag_of(task, known[0]))
        return range(first, first + len(known))

    def language_logits(
        self,
        frames: Float[Tensor, "batch enc_frames d_model"],
        mask: Bool[Tensor, "batch enc_frames"],
    ) -> Float[Tensor, "batch languages"]:
        """How well the tag of each language of recognition fits to what is spoken, in their order.

        The decoder's vector for the tag without a language is compared with theirs, as Whisper does it
        where there are several.
        """
        first = self.first("asr", len(frames))[:, :1]
        vectors = self.stack(first, frames, mask).vectors[:, 0]
        places = self.tags_of("asr")
        among = self.tags.weight[places.start : places.stop]
        if self.prompt > 1:
            width = vectors.shape[1]
            return at_least_float32(vectors @ among[:, width : 2 * width].T)
        logits: Tensor = at_least_float32(vectors @ among.T)
        scale: float = vectors.shape[1] ** -0.5
        return logits * scale

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        frames: Float[Tensor, "batch enc_frames d_model"],
        mask: Bool[Tensor, "batch enc_frames"],
        tag: Tag,
        *,
        with_attention: bool = False,
    ) -> Decoded:
        """Teacher forcing: logits after the tag and after each prefix (tokens + 1 positions)."""
        first = self.first(tag, tokens.shape[0])
        prefixes = torch.cat([first, self.embedding(tokens)], dim=1)
        output: DecoderOutput = self.stack(prefixes, frames, mask, with_attention=with_attention)
        before = self.prompt - 1  # what follows these is no text
        attention = output.log_attention
        return Decoded(
            self.output(output.vectors[:, before:]),
            attention if attention is None else attention[:, before:],
        )

    def start(
        self,
        frames: Float[Tensor, "batch enc_frames d_model"],
        mask: Bool[Tensor, "batch enc_frames"],
    ) -> DecoderCache:
        """The cache of a new search, with cross-attention keys and values projected once."""
        return self.stack.start(frames.shape[0], frames, mask)

    def step(
        self, tokens: Int[Tensor, " rows"] | None, cache: DecoderCache, tag: Tag
    ) -> Float[Tensor, "rows vocab_size"]:
        """Logits after one more token per hypothesis; the first call passes None (the tag)."""
        if tokens is not None:
            vectors = self.stack.step(self.embedding(tokens), cache)
        else:
            for x in self.first(tag, cache.batch).unbind(dim=1):
                vectors = self.stack.step(x, cache)
        out: Tensor = self.output(vectors)
        return out

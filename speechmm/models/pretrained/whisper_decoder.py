"""Takes over Whisper's decoder: its layers, and the vectors of those of its pieces that a tokenizer has.

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", sections 2.2 and
2.3. Weights have the names of Hugging Face's ``WhisperForConditionalGeneration``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from speechmm.errors import CheckpointError, ConfigError
from speechmm.files.json_text import fits
from speechmm.models.pretrained.folder import (
    CONFIG,
    read_settings,
    weight_files,
    weight_names,
    weights_below,
)
from speechmm.models.text_decoder import TextDecoder
from speechmm.text.borrowed_pieces import (
    bytes_of_piece,
    read_vocabulary,
    text_pieces,
    vocabulary_files,
)
from speechmm.text.languages import tag_parts
from speechmm.text.tokenizer import EOS, SPECIALS

GENERATION = "generation_config.json"
MULTILINGUAL_VOCABULARY = 51_865
"""Tokens from which a model knows more than English, where nothing says so: OpenAI's own rule."""
START, END, NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
SPOKEN, TRANSLATED = "<|transcribe|>", "<|translate|>"
_PREFIXES = ("model.decoder.", "decoder.")


@dataclass(frozen=True)
class WhisperDecoder:
    """What a folder says of its decoder."""

    folder: Path
    layers: int
    heads: int
    ff_dim: int
    positions: int
    vocabulary: Mapping[str, int]
    """The number of every token."""
    multilingual: bool
    """Whether it is told the language and the task."""

    @property
    def prompt(self) -> int:
        """Tokens before a text."""
        return 4 if self.multilingual else 2

    @property
    def languages(self) -> list[str]:
        """Codes of those that it can be told."""
        if not self.multilingual:
            return ["en"]
        marks = (token[2:-2] for token in self.vocabulary if token.startswith("<|"))
        return sorted(mark for mark in marks if 2 <= len(mark) <= 3 and mark.isalpha())

    @property
    def network(self) -> dict[str, Any]:
        """Settings of the model's dimensions that follow."""
        return {
            "heads": self.heads,
            "ff_dim": self.ff_dim,
            "decoder_layers": self.layers,
            "decoder_positions": self.positions,
            "decoder_activation": "gelu",
            "decoder_prompt": self.prompt,
        }

    def prompt_tokens(self, tag: str, language: str) -> list[int]:
        """Numbers of the tokens before a text.

        Args:
            tag: Of the decoder: a task, or one in a language.
            language: That is spoken where the tag names none, or one that Whisper does not know.

        Raises:
            CheckpointError: The vocabulary lacks one of them.
        """
        names = [START, NO_TIMES]
        if self.multilingual:
            task, own = tag_parts(tag)
            code = own if own in self.languages and task == "asr" else language
            names[1:1] = [f"<|{code}|>", SPOKEN if task == "asr" else TRANSLATED]
        return [self.number(name) for name in names]

    def number(self, token: str) -> int:
        """Of a token that is no piece of text.

        Raises:
            CheckpointError: There is none.
        """
        if token not in self.vocabulary:
            raise CheckpointError(
                f"{self.folder}: its vocabulary has no {token}; expected Whisper's. Copy tokenizer.json of "
                "the model into the folder."
            )
        return self.vocabulary[token]


def has_decoder(folder: Path) -> bool:
    """Whether a folder of Whisper holds the decoder and its vocabulary, and not the encoder alone."""
    described = read_settings(folder / CONFIG).get("model_type") == "whisper"
    if not described or not vocabulary_files(folder):
        return False
    names = (prefix + "embed_tokens.weight" for prefix in _PREFIXES)
    return not set(names).isdisjoint(weight_names(weight_files(folder)))


def read_decoder(folder: Path, language: str | None) -> WhisperDecoder:
    """The decoder of a folder; no weights are read.

    Args:
        folder: In Hugging Face's layout, with its vocabulary.
        language: That is to be spoken: a code of Whisper's; None leaves it open.

    Raises:
        CheckpointError: The folder holds no Whisper, or no vocabulary.
        ConfigError: It does not know the language.
    """
    settings = read_settings(folder / CONFIG)
    names = ("layers", "attention_heads", "ffn_dim")
    sizes: list[Any] = [settings.get(f"decoder_{name}") for name in names]
    sizes.append(settings.get("max_target_positions"))
    if settings.get("model_type") != "whisper" or not all(
        fits(size, int) and size > 0 for size in sizes
    ):
        raise CheckpointError(
            f"{folder / CONFIG}: it describes no decoder of Whisper; expected one, as "
            "model.pretrained_decoder is set. Give a folder of Whisper, or leave that setting out."
        )
    path = folder / GENERATION
    told = read_settings(path).get("is_multilingual") if path.is_file() else None
    if not isinstance(told, bool):
        tokens: Any = settings.get("vocab_size")
        told = bool(fits(tokens, int)) and tokens >= MULTILINGUAL_VOCABULARY
    layers, heads, ff_dim, positions = sizes
    found = WhisperDecoder(
        folder, layers, heads, ff_dim, positions, read_vocabulary(folder), multilingual=told
    )
    if language is not None and language not in found.languages:
        raise ConfigError(
            f"model.pretrained_decoder is {language}; expected a language that {folder} knows: "
            f"{', '.join(found.languages)}. Choose one; for another language, one that is like it."
        )
    return found


def take_decoder(
    decoder: TextDecoder, source: WhisperDecoder, pieces: Sequence[str], language: str
) -> tuple[int, list[str]]:
    """Copies the weights of Whisper's decoder.

    A piece that Whisper does not have begins as the mean of the pieces that are its bytes.

    Args:
        decoder: Of the dimensions of :attr:`WhisperDecoder.network`; it is changed.
        source: The decoder of a folder.
        pieces: Of the tokenizer, the special ones first.
        language: That is spoken where tags name none.

    Returns:
        How many pieces were found, and those that were not.

    Raises:
        CheckpointError: Weights are missing, or of other shapes than the config says.
    """
    weights = _decoder_weights(source.folder)
    try:
        rows = weights.pop("embed_tokens.weight")
        taken = _renamed(weights)
    except KeyError as error:
        raise CheckpointError(
            f"{source.folder}: the weight {error} of the decoder is missing; expected all of Whisper's. "
            "Get the file again."
        ) from error
    if max(source.vocabulary.values()) >= len(rows):
        raise CheckpointError(
            f"{source.folder}: its vocabulary has {max(source.vocabulary.values()) + 1} tokens, its "
            f"weights {len(rows)}; expected those of one model. Get both files again."
        )
    known = text_pieces(source.vocabulary)
    vectors = torch.zeros(len(pieces), rows.shape[1])
    vectors[EOS] = rows[source.number(END)]
    missing = []
    for place, piece in enumerate(pieces[len(SPECIALS) :], start=len(SPECIALS)):
        if piece in known:
            vectors[place] = rows[known[piece]]
        else:
            parts = [source.number(letter) for letter in bytes_of_piece(piece)]
            vectors[place] = rows[parts].mean(dim=0)
            missing.append(piece)
    tags = [rows[source.prompt_tokens(tag, language)].flatten() for tag in decoder.names]
    taken |= {
        "embedding.weight": vectors,
        "output.weight": vectors.clone(),
        "output.bias": torch.zeros(len(pieces)),
        "tags.weight": torch.stack(tags),
    }
    try:
        decoder.load_state_dict(taken)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source.folder}: weights of the decoder do not fit its config "
            f"({str(error).splitlines()[-1].strip()}); expected those of one model. Get both files again."
        ) from error
    return len(pieces) - len(SPECIALS) - len(missing), missing


def _decoder_weights(folder: Path) -> dict[str, Float[Tensor, ...]]:
    """By the names that they have in the decoder; those of the encoder are not read.

    Raises:
        CheckpointError: They cannot be read.
    """
    try:
        names = weight_names(weight_files(folder))
        first, second = (weights_below(names, prefix) for prefix in _PREFIXES)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the weights cannot be read ({error}); expected safetensors. Get them again."
        ) from error
    return first or second


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by this toolkit's names, projections that it computes together in one matrix.

    Whisper's keys have no bias.

    Raises:
        KeyError: One is missing.
    """
    out = {
        "stack.positions.weight": weights["embed_positions.weight"],
        **_both("stack.norm", weights, "layer_norm"),
    }
    layers = {name.split(".")[1] for name in weights if name.startswith("layers.")}
    for layer in layers:
        theirs, ours = f"layers.{layer}.", f"stack.layers.{layer}."
        for mine, name in (
            ("self_attention.output", "self_attn.out_proj"),
            ("self_norm", "self_attn_layer_norm"),
            ("cross_attention.query", "encoder_attn.q_proj"),
            ("cross_attention.output", "encoder_attn.out_proj"),
            ("cross_norm", "encoder_attn_layer_norm"),
            ("feed_forward.up", "fc1"),
            ("feed_forward.down", "fc2"),
            ("feed_forward_norm", "final_layer_norm"),
        ):
            out |= _both(ours + mine, weights, theirs + name)
        for mine, attention, parts in (
            ("self_attention.query_key_value", "self_attn", "qkv"),
            ("cross_attention.key_value", "encoder_attn", "kv"),
        ):
            names = [f"{theirs}{attention}.{part}_proj" for part in parts]
            matrices = [weights[f"{name}.weight"] for name in names]
            biases = [
                torch.zeros(len(matrix)) if part == "k" else weights[f"{name}.bias"]
                for name, part, matrix in zip(names, parts, matrices, strict=True)
            ]
            out[f"{ours}{mine}.weight"] = torch.cat(matrices)
            out[f"{ours}{mine}.bias"] = torch.cat(biases)
    return out


def _both(mine: str, weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {f"{mine}.{part}": weights[f"{name}.{part}"] for part in ("weight", "bias")}

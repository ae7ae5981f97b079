"""Defines a batch: padded features, tokens and what else the parts of the toolkit share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechmm.alignments import Alignment


@dataclass
class Batch:
    """Padded utterances with everything that tasks need.

    Padding is zeros on the right; only the first ``*_lengths`` entries of a row mean anything.
    Id 0 is the blank, which no text contains, so padding never looks like text.
    """

    ids: list[str]
    """Cut ids, in row order."""
    features: Float[Tensor, "batch frames n_mels"]
    """Natural-log mel power, not yet normalised."""
    feature_lengths: Int[Tensor, "batch"]
    """Valid frames per row."""
    tokens: Int[Tensor, "batch tokens"]
    """``Tokenizer.encode`` of the text: without bos and eos, which the model adds."""
    token_lengths: Int[Tensor, "batch"]
    """Valid tokens per row."""
    align_tokens: Int[Tensor, "batch align_tokens"]
    """``Tokenizer.encode_aligned`` of the text: silence, word, silence, word, ..., silence."""
    align_lengths: Int[Tensor, "batch"]
    """Valid alignment tokens per row."""
    texts: list[str]
    """The reference texts as written."""
    seconds: float
    """Seconds of audio in the batch, padding not counted."""
    references: list[Alignment | None]
    """What the corpus knows about when things were said; never used in training."""
    speakers: list[str]
    """Who speaks; "" where the corpus does not say."""
    speeds: list[float]
    """How fast the recording is played: 1.1 is 10 % faster and higher."""
    recombined: list[bool]
    """Whether the utterance was put together from words of others in training."""
    frames: list[int] = field(default_factory=list)
    """``feature_lengths`` as the host knows them, so that nobody has to ask the device."""

    def __post_init__(self) -> None:
        if not self.frames:
            self.frames = self.feature_lengths.tolist()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def padding(self) -> float:
        """Share of the feature frames that are padding, in [0, 1)."""
        cells = self.features.shape[0] * self.features.shape[1]
        return 1.0 - sum(self.frames) / cells if cells else 0.0

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch with every tensor on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; torch's ``DataLoader`` calls this by name."""
        return self._map(lambda tensor: tensor.pin_memory())

    def duplicated(self) -> "Batch":
        """Every utterance two times: all of them, then all of them again."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        doubled: dict[str, Any] = {
            name: torch.cat([value, value]) if isinstance(value, Tensor) else value * 2
            for name, value in values.items()
        }
        return replace(self, **doubled)

    def with_rows(
        self,
        features: Sequence[Float[Tensor, "_ n_mels"]],
        tokens: Sequence[Sequence[int]],
        align_tokens: Sequence[Sequence[int]],
        **others: Any,
    ) -> "Batch":
        """Other utterances in place of these, padded, on the same device.

        Args:
            features: Of each.
            tokens: Of each, as in ``tokens``.
            align_tokens: Of each, as in ``align_tokens``.
            others: Fields that are no tensors, where they change.

        Raises:
            ValueError: A field has not as many rows as the features.
        """
        device = self.features.device
        padded, lengths = pad_tokens(tokens)
        align_padded, align_lengths = pad_tokens(align_tokens)
        batch = replace(
            self,
            features=pad_sequence([rows.to(device) for rows in features], batch_first=True),
            feature_lengths=torch.tensor([len(rows) for rows in features], device=device),
            frames=[len(rows) for rows in features],
            tokens=padded.to(device),
            token_lengths=lengths.to(device),
            align_tokens=align_padded.to(device),
            align_lengths=align_lengths.to(device),
            **others,
        )
        for one in fields(batch):
            rows = getattr(batch, one.name)
            if isinstance(rows, Tensor | list) and len(rows) != len(features):
                raise ValueError(f"{one.name}: {len(rows)} rows; expected {len(features)}")
        return batch

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        changed: dict[str, Any] = {
            name: function(value) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


def valid_rows(ids: Int[Tensor, "batch tokens"], lengths: Int[Tensor, "batch"]) -> list[list[int]]:
    """The valid ids of every row: what `pad_tokens` was given."""
    return [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]


def pad_tokens(
    rows: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch"]]:
    """Stack id lists of different lengths, padded with 0 on the right, with their lengths."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    longest = int(lengths.max()) if rows else 0
    padded = torch.zeros(len(rows), longest, dtype=torch.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded, lengths

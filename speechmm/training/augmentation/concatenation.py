"""Concatenates neighbouring utterances of a batch to longer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from speechmm.data.batch import Batch, valid_rows
from speechmm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConcatenationConfig:
    """Utterances one after the other, so that short ones teach what long ones are like."""

    share: float = 0.0
    """Share of batches whose utterances are concatenated."""
    max_utterances: int = 4
    """Most utterances in one; as many as are drawn from 2 to this."""
    max_frames: int = 2000
    """Longest result in feature frames (10 ms)."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or self.max_utterances < 2:
            raise ConfigError(
                f"model.augmentation.concatenation: share is {self.share}, max_utterances "
                f"{self.max_utterances}; expected 0 to 1, and 2 or more. Correct the config."
            )


def draw_groups(
    lengths: Int[Tensor, " batch"],
    config: ConcatenationConfig,
    generator: torch.Generator | None = None,
) -> list[list[int]] | None:
    """Neighbours to concatenate to one utterance; None where the batch stays as it is.

    Args:
        lengths: Frames of each utterance.
        config: How often, how many, how long.
        generator: Of the random choices; torch's own when not given.
    """
    if not config.share or float(torch.rand((), generator=generator)) >= config.share:
        return None
    groups: list[list[int]] = []
    wanted = frames = 0
    for row, length in enumerate(lengths.tolist()):
        if wanted and frames + length <= config.max_frames:
            groups[-1].append(row)
            wanted, frames = wanted - 1, frames + length
        else:
            groups.append([row])
            wanted = int(torch.randint(1, config.max_utterances, (), generator=generator))
            frames = length
    return groups


def concatenate(
    batch: Batch, groups: Sequence[Sequence[int]], *, silence: int, space: int | None
) -> Batch:
    """Utterances of several rows one after the other, as one row each.

    Args:
        batch: The utterances.
        groups: Rows to concatenate; every group becomes a row, with the speaker of its first.
        silence: Id that ``align_tokens`` begin and end with; where two meet, one is left.
        space: Id to put between ``tokens`` of two texts; None where tokens bring their own.
    """
    between = [] if space is None else [space]
    tokens = valid_rows(batch.tokens, batch.token_lengths)
    aligned = valid_rows(batch.align_tokens, batch.align_lengths)
    features, texts, placed = [], [], []
    for rows in groups:
        features.append(torch.cat([batch.features[r, : batch.feature_lengths[r]] for r in rows]))
        texts.append(_chain([tokens[r] for r in rows], between))
        following = [aligned[r] for r in rows[1:]]
        following = [ids[1:] if ids[:1] == [silence] else ids for ids in following]
        placed.append(_chain([aligned[rows[0]], *following], []))
    return batch.with_rows(
        features,
        texts,
        placed,
        ids=["+".join(batch.ids[r] for r in rows) for rows in groups],
        texts=[" ".join(batch.texts[r] for r in rows) for rows in groups],
        references=[None] * len(groups),
        speakers=[batch.speakers[rows[0]] for rows in groups],
        speeds=[batch.speeds[rows[0]] for rows in groups],
        recombined=[any(batch.recombined[r] for r in rows) for rows in groups],
    )


def _chain(rows: Sequence[Sequence[int]], between: Sequence[int]) -> list[int]:
    out = list(rows[0])
    for row in rows[1:]:
        out += [*between, *row]
    return out

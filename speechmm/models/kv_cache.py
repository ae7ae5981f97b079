"""What a step-by-step decoder remembers: the projected encoder output, and what was said so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

FIRST_CAPACITY = 64
"""Entries of an utterance that there is room for at first."""


@runtime_checkable
class Past(Protocol):
    """What one layer remembers of what hypotheses have said."""

    def attend(
        self, projected: Float[Tensor, "three batch heads beams d_head"]
    ) -> Float[Tensor, "batch heads beams d_head"]:
        """Remembers the keys and values of each hypothesis' new token, and asks its queries."""
        ...


class History:
    """Keys and values of all tokens that a search has heard, each token stored once.

    Hypotheses share their beginnings, so the tokens of an utterance form a tree. All of them stand
    in one row of entries; the queries of the beams stand side by side, as they do before the
    encoder's output, and a mask says which entries a hypothesis descends from. To reorder
    hypotheses is to reorder that mask: no key is copied. When the room is full, entries that no
    hypothesis descends from any more are left out, so that there are at most about twice as many as
    one hypothesis has tokens. Keys are rotated before they are stored, so their order means nothing.
    """

    def __init__(self, layers: int, batch: int, *, like: Tensor):
        self.layers = layers
        self._stored: Float[Tensor, "layers two batch heads capacity d_head"] | None = None
        self._bias: Float[Tensor, "batch beams used"] = like.new_zeros(batch, 1, 0)
        """0 for the entries that a hypothesis descends from, -inf for others."""

    @property
    def used(self) -> int:
        """Entries of an utterance."""
        return self._bias.shape[2]

    def add(
        self, layer: int, projected: Float[Tensor, "three batch heads beams d_head"]
    ) -> Float[Tensor, "batch heads beams d_head"]:
        """Stores a layer's keys and values, and asks its queries; the first layer makes room."""
        if layer == 0:
            self._make_room(projected)
        assert self._stored is not None
        stored = self._stored[layer, :, :, :, : self.used]
        stored[:, :, :, -projected.shape[3] :] = projected[1:]
        keys, values = stored
        return F.scaled_dot_product_attention(projected[0], keys, values, self._bias[:, None])

    def follow(self, rows: Int[Tensor, " kept"]) -> Int[Tensor, " utterances"] | None:
        """Hypothesis ``i`` continues what hypothesis ``rows[i]`` was.

        Returns:
            The utterances that are left, or None where all are.
        """
        batch, beams, used = self._bias.shape
        utterances: Tensor = torch.unique_consecutive(torch.div(rows, beams, rounding_mode="floor"))
        self._bias = self._bias.flatten(0, 1).index_select(0, rows).view(len(utterances), -1, used)
        if len(utterances) == batch:
            return None
        if self._stored is not None:
            self._stored = self._stored.index_select(2, utterances)
        return utterances

    def _make_room(self, projected: Float[Tensor, "three batch heads beams d_head"]) -> None:
        """One more entry for every hypothesis, which it descends from."""
        _, batch, heads, beams, width = projected.shape
        if self._stored is None:
            self._stored = projected.new_empty(self.layers, 2, batch, heads, 0, width)
        if self.used + beams > self._stored.shape[4]:
            self._stored = self._without_forgotten(self._stored, beams)
        own = projected.new_full((beams, beams), float("-inf")).fill_diagonal_(0.0)
        self._bias = torch.cat([self._bias.to(own), own.expand(batch, -1, -1)], dim=2)

    def _without_forgotten(self, stored: Tensor, beams: int) -> Tensor:
        """Leaves out what no hypothesis descends from, and makes as much room again."""
        needed = (self._bias == 0).any(dim=1)
        count = int(needed.sum(dim=1).max())
        order = needed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
        self._bias = self._bias.gather(2, order[:, None].expand(-1, self._bias.shape[1], -1))
        layers, two, batch, heads, _, width = stored.shape
        index = order[None, None, :, None, :, None].expand(layers, two, -1, heads, -1, width)
        capacity = max(FIRST_CAPACITY, 2 * (count + beams))
        kept = stored.new_empty(layers, two, batch, heads, capacity, width)
        kept[:, :, :, :, :count] = stored.gather(4, index)
        return kept


@dataclass
class LayerHistory:
    """One layer's part of a :class:`History`."""

    history: History
    layer: int

    def attend(
        self, projected: Float[Tensor, "three batch heads beams d_head"]
    ) -> Float[Tensor, "batch heads beams d_head"]:
        """Stores the new keys and values; what the queries find."""
        return self.history.add(self.layer, projected)


@dataclass
class LayerCache:
    """What one decoder layer remembers: what was said, and the projected encoder output."""

    past: Past
    cross_keys: Float[Tensor, "batch heads enc_frames d_head"] | None = None
    cross_values: Float[Tensor, "batch heads enc_frames d_head"] | None = None


@dataclass
class DecoderCache:
    """State of a search: ``rows = batch * beams`` hypotheses over ``batch`` utterances.

    Cross-attention keys and values exist once per utterance; its beams share them by standing
    in the query axis.
    """

    layers: list[LayerCache]
    bias: Float[Tensor, "batch 1 1 enc_frames"] | None
    batch: int
    history: History | None = None
    position: int | Tensor = 0

    def reorder(self, rows: Int[Tensor, " kept"]) -> None:
        """Hypothesis ``i`` continues what hypothesis ``rows[i]`` was.

        Utterances none of whose hypotheses go on are dropped.
        """
        left = self.history.follow(rows) if self.history else None
        if left is None:
            return
        self.batch = len(left)
        for layer in self.layers:
            if layer.cross_keys is not None and layer.cross_values is not None:
                layer.cross_keys = layer.cross_keys.index_select(0, left)
                layer.cross_values = layer.cross_values.index_select(0, left)
        if self.bias is not None:
            self.bias = self.bias.index_select(0, left)

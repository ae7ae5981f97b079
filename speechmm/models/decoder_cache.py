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
    hypothesis descends from any more are left out, so that there are hardly more of them than one
    hypothesis has tokens. Keys are rotated before they are stored, so their order means nothing.
    """

    def __init__(self, layers: int, batch: int):
        self.layers = layers
        self.batch = batch
        self.beams = 1
        self.used = 0
        self._stored: Float[Tensor, "layers two batch heads capacity d_head"] | None = None
        self._bias: Float[Tensor, "batch beams used"] | None = None
        """0 for the entries that a hypothesis descends from, -inf for others."""

    def add(self, layer: int, projected: Float[Tensor, "three batch heads beams d_head"]) -> Tensor:
        """Stores a layer's keys and values; the first layer makes room for the step.

        Returns:
            What the queries find, (batch, heads, beams, d_head).
        """
        if layer == 0:
            self._make_room(projected)
        assert self._stored is not None and self._bias is not None
        stored = self._stored[layer]
        stored[:, :, :, self.used - self.beams : self.used] = projected[1:]
        keys, values = stored[:, :, :, : self.used]
        return F.scaled_dot_product_attention(projected[0], keys, values, self._bias[:, None])

    def follow(self, rows: Int[Tensor, " kept"]) -> Int[Tensor, " utterances"] | None:
        """Hypothesis ``i`` continues what hypothesis ``rows[i]`` was.

        Returns:
            The utterances that are left, or None where all are.
        """
        utterances = torch.unique_consecutive(torch.div(rows, self.beams, rounding_mode="floor"))
        fewer = len(utterances) < self.batch
        if fewer and self._stored is not None:
            self._stored = self._stored.index_select(2, utterances)
        self.batch = len(utterances)
        if self._bias is not None:
            self._bias = self._bias.flatten(0, 1).index_select(0, rows)
            self._bias = self._bias.view(self.batch, -1, self.used)
        self.beams = len(rows) // max(1, self.batch)
        return utterances if fewer else None

    def _make_room(self, projected: Float[Tensor, "three batch heads beams d_head"]) -> None:
        """One more entry for every hypothesis, which it descends from."""
        _, batch, heads, beams, width = projected.shape
        own = projected.new_full((beams, beams), float("-inf")).fill_diagonal_(0.0)
        own = own.expand(batch, -1, -1)
        if self._stored is None or self._bias is None:
            shape = (self.layers, 2, batch, heads, max(FIRST_CAPACITY, 4 * beams), width)
            self._stored, self._bias = projected.new_empty(shape), own
        else:
            if self.used + beams > self._stored.shape[4]:
                self._forget(beams)
            self._bias = torch.cat([self._bias, own], dim=2)
        self.used += beams

    def _forget(self, beams: int) -> None:
        """Leaves out what no hypothesis descends from, and makes as much room again."""
        assert self._stored is not None and self._bias is not None
        needed = (self._bias == 0).any(dim=1)
        count = int(needed.sum(dim=1).max())
        order = needed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
        self._bias = self._bias.gather(2, order[:, None].expand(-1, self._bias.shape[1], -1))
        layers, two, batch, heads, _, width = self._stored.shape
        index = order[None, None, :, None, :, None].expand(layers, two, -1, heads, -1, width)
        kept = self._stored.gather(4, index)
        capacity = max(FIRST_CAPACITY, 2 * (count + beams))
        self._stored = kept.new_empty(layers, two, batch, heads, capacity, width)
        self._stored[:, :, :, :, :count] = kept
        self.used = count


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

"""Caches keys and values of step-by-step decoding: of the encoder output, and of the tokens so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.models.readback import Readback

FIRST_CAPACITY = 64
"""Entries of an utterance that there is room for at first."""


@runtime_checkable
class KVCache(Protocol):
    """Self-attention keys and values of one layer, of the tokens of every hypothesis so far."""

    def attend(
        self, projected: Float[Tensor, "three batch heads beams d_head"]
    ) -> Float[Tensor, "batch heads beams d_head"]:
        """Stores keys and values of each hypothesis' new token; attention of its queries over all."""
        ...


class TreeKVCache:
    """Keys and values of all tokens of a beam search, each token stored once.

    Hypotheses share prefixes, so the tokens of an utterance form a tree. All of them stand in one
    row of entries; the queries of the beams stand side by side, as they do in cross-attention, and
    a mask says which entries are ancestors of a hypothesis. Reordering hypotheses reorders that
    mask: no key is copied. When the row is full, entries that are nobody's ancestor are dropped,
    so that there are at most about twice as many as one hypothesis has tokens. Keys are rotated
    before they are stored, so their order means nothing. Why: docs/decisions/0016.
    """

    def __init__(self, layers: int, batch: int, *, like: Tensor):
        self.layers = layers
        self._stored: Float[Tensor, "layers two batch heads capacity d_head"] | None = None
        self._bias: Float[Tensor, "batch beams used"] = like.new_zeros(batch, 1, 0)
        """0 for the ancestors of a hypothesis, -inf for other entries."""
        self._needed: tuple[Readback, int] | None = None
        """Most entries that an utterance needed when room was made last, and the entries then."""

    @property
    def used(self) -> int:
        """Entries of an utterance."""
        return self._bias.shape[2]

    def add(
        self, layer: int, projected: Float[Tensor, "three batch heads beams d_head"]
    ) -> Float[Tensor, "batch heads beams d_head"]:
        """Stores a layer's keys and values and attends; the first layer makes room for all."""
        if layer == 0:
            self._make_room(projected)
        assert self._stored is not None
        stored = self._stored[layer, :, :, :, : self.used]  # (two, batch, heads, used, d_head)
        stored[:, :, :, -projected.shape[3] :] = projected[1:]  # the last ``beams`` entries are new
        keys, values = stored
        # beams are the query axis; the mask (batch, 1, beams, used) hides other hypotheses' tokens
        return F.scaled_dot_product_attention(projected[0], keys, values, self._bias[:, None])

    def reorder(self, rows: Int[Tensor, " kept"]) -> None:
        """Hypothesis ``i`` continues what hypothesis ``rows[i]`` was; no utterance ends."""
        batch, _, used = self._bias.shape
        self._bias = self._bias.flatten(0, 1).index_select(0, rows).view(batch, -1, used)

    def keep_utterances(self, utterances: Int[Tensor, " left"]) -> None:
        """Drops all others."""
        self._bias = self._bias.index_select(0, utterances)
        if self._stored is not None:
            self._stored = self._stored.index_select(2, utterances)

    def _make_room(self, projected: Float[Tensor, "three batch heads beams d_head"]) -> None:
        """One more entry for every hypothesis, its own; the mask grows to (batch, beams, used + beams)."""
        _, batch, heads, beams, width = projected.shape
        if self._stored is None:
            self._stored = projected.new_empty(self.layers, 2, batch, heads, 0, width)
        if self.used + beams > self._stored.shape[4]:
            self._stored = self._compacted(self._stored, beams)
        own = projected.new_full((beams, beams), float("-inf")).fill_diagonal_(0.0)
        self._bias = torch.cat([self._bias.to(own), own.expand(batch, -1, -1)], dim=2)

    def _compacted(self, stored: Tensor, beams: int) -> Tensor:
        """Drops entries that are nobody's ancestor, and doubles the room."""
        needed = (self._bias == 0).any(dim=1)  # (batch, used)
        count = self._most_needed(needed)
        # a stable sort moves the needed entries of every utterance to the front
        order = needed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
        self._bias = self._bias.gather(2, order[:, None].expand(-1, self._bias.shape[1], -1))
        # the same gather for keys and values: (layers, two, batch, heads, capacity, d_head)
        layers, two, batch, heads, _, width = stored.shape
        index = order[None, None, :, None, :, None].expand(layers, two, -1, heads, -1, width)
        capacity = max(FIRST_CAPACITY, 2 * (count + beams))
        kept = stored.new_empty(layers, two, batch, heads, capacity, width)
        kept[:, :, :, :, :count] = stored.gather(4, index)
        return kept

    def _most_needed(self, needed: Bool[Tensor, "batch used"]) -> int:
        """Entries of an utterance to keep: exact on a CPU, elsewhere a bound, which needs no waiting.

        The bound counts what was needed when room was made last, and all entries since then.
        """
        found, before = Readback(needed.sum(dim=1).amax()), self._needed
        if found.ready:
            (count,) = found.values()
        elif before is None:
            count = self.used
        else:
            count = min(self.used, before[0].values()[0] + self.used - before[1])
        self._needed = found, count
        return count


@dataclass
class TreeLayerCache:
    """One layer's :class:`KVCache` in a :class:`TreeKVCache`."""

    tree: TreeKVCache
    layer: int

    def attend(
        self, projected: Float[Tensor, "three batch heads beams d_head"]
    ) -> Float[Tensor, "batch heads beams d_head"]:
        """Stores the new keys and values; attention of the queries over all of them."""
        return self.tree.add(self.layer, projected)


@dataclass
class LayerCache:
    """Keys and values of one decoder layer: of the tokens so far, and of the encoder output."""

    self_attention: KVCache
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
    tree: TreeKVCache | None = None
    position: int | Tensor = 0

    def reorder(self, rows: Int[Tensor, " kept"]) -> None:
        """Hypothesis ``i`` continues what hypothesis ``rows[i]`` was; no utterance ends."""
        if self.tree is not None:
            self.tree.reorder(rows)

    def keep_utterances(self, utterances: Int[Tensor, " left"]) -> None:
        """Drops all others, with their hypotheses."""
        if self.tree is not None:
            self.tree.keep_utterances(utterances)
        self.batch = len(utterances)
        for layer in self.layers:
            if layer.cross_keys is not None and layer.cross_values is not None:
                layer.cross_keys = layer.cross_keys.index_select(0, utterances)
                layer.cross_values = layer.cross_values.index_select(0, utterances)
        if self.bias is not None:
            self.bias = self.bias.index_select(0, utterances)

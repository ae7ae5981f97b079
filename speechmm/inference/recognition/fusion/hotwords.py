"""Boosts expected phrases during a search, by an Aho-Corasick automaton over token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.alignments.scripts import is_unspaced
from speechmm.inference.recognition.fusion.scorer import rows_of, word_starts
from speechmm.text.tokenizer import BLANK, BOS, EOS, SENTENCEPIECE_KINDS, SIL, UNK, Tokenizer

logger = logging.getLogger(__name__)


class HotwordScorer:
    """Makes phrases likelier: a bonus for each token of each occurrence of a phrase.

    The bonus is given token by token, so that the beam keeps a phrase that has begun, and taken
    back where the phrase is not completed. Phrases begin and end with words, in scripts without
    spaces with letters. The state of a hypothesis is a node of an Aho-Corasick automaton over token
    ids, so a step is two look-ups in tables. Source: Aho and Corasick 1975, "Efficient string
    matching"; Zhao et al. 2019, "Shallow-fusion end-to-end contextual biasing".
    """

    weight = 1.0

    def __init__(self, phrases: Iterable[str], tokenizer: Tokenizer, bonus: float):
        """Builds the automaton.

        Args:
            phrases: Words or several words; those the tokenizer cannot spell are named in
                the log and left out.
            tokenizer: Spells them.
            bonus: Added per token of a phrase (natural log).
        """
        automaton = _Automaton(
            _spell(phrases, tokenizer),
            set(word_starts(tokenizer)),
            {token for token, piece in enumerate(tokenizer.pieces) if is_unspaced(piece)},
            tokenizer.vocab_size,
            separate_space=tokenizer.kind not in SENTENCEPIECE_KINDS,
        )
        self.next_node = automaton.next_node
        self.gain = automaton.gain(bonus)
        self.most_per_token = max(0.0, float(self.gain.max()))
        self.start_node = automaton.ROOT

    def start(self, batch: int, device: torch.device) -> _HotwordState:
        """The state of ``batch`` empty hypotheses."""
        return _HotwordState(self, batch, device)


def _spell(phrases: Iterable[str], tokenizer: Tokenizer) -> set[tuple[int, ...]]:
    """Token ids of each phrase; those with none, or with unknown ones, are named and left out."""
    spelled = {phrase: tuple(tokenizer.encode(phrase)) for phrase in phrases}
    unspelled = [phrase for phrase, ids in spelled.items() if not ids or UNK in ids]
    if unspelled:
        logger.warning(
            "hotwords: the model's tokenizer cannot spell %s; left out",
            ", ".join(map(repr, unspelled)),
        )
    return {ids for ids in spelled.values() if ids and UNK not in ids}


class _HotwordState:
    def __init__(self, scorer: HotwordScorer, batch: int, device: torch.device):
        self.next_node = scorer.next_node.to(device)
        self.gain = scorer.gain.to(device)
        self.nodes = torch.full((batch,), scorer.start_node, device=device)

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """Bonus of each token, or what it takes back."""
        return self.gain[self.nodes]

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Every hypothesis goes to its next node."""
        self.nodes = self.next_node[self.nodes[rows], tokens]

    def keep_utterances(self, utterances: Int[Tensor, " left"], beams: int) -> None:
        """Drops the nodes of all others."""
        self.nodes = self.nodes[rows_of(utterances, beams)]


class _Automaton:
    """A trie of phrases with failure links resolved: one transition per node and token.

    Nodes are prefixes of phrases. Two come first: ROOT, where a word may begin, and DEAD, inside a
    word that begins no phrase.
    """

    ROOT, DEAD = 0, 1

    def __init__(
        self,
        phrases: set[tuple[int, ...]],
        starts: set[int],
        unspaced: set[int],
        vocab_size: int,
        *,
        separate_space: bool,
    ):
        """Builds the transitions.

        Args:
            phrases: Token ids.
            starts: Ids after which a new word has begun.
            unspaced: Ids of letters that are words themselves: one begins before, one may after.
            vocab_size: Number of ids.
            separate_space: Whether a piece of its own stands between words.
        """
        self.starts = starts
        self.unspaced = unspaced
        self.ends_anywhere = [False, False]
        """Whether the last token of a node's phrase ends a word, whatever follows."""
        self.children: list[dict[int, int]] = [{}, {}]
        self.depth = [0, 0]
        """Tokens from the root: what has been given so far for a phrase that may yet be broken off."""
        self.completed = [0, 0]
        """Tokens of the phrases that end with a node, kept when a word ends there too."""
        self.next_node = torch.full((2, vocab_size), self.DEAD)
        self.separate_space = separate_space
        if separate_space:  # the next token begins a word
            self.next_node[:, sorted(starts | unspaced)] = self.ROOT
        for phrase in sorted(phrases):
            self._insert(phrase)
        self._link()

    def _insert(self, phrase: tuple[int, ...]) -> None:
        node = self.ROOT
        for token in phrase:
            if token not in self.children[node]:
                self.children[node][token] = len(self.children)
                self.children.append({})
                self.depth.append(self.depth[node] + 1)
                self.completed.append(0)
                self.ends_anywhere.append(token in self.unspaced)
            node = self.children[node][token]
        self.completed[node] = self.depth[node]

    def _link(self) -> None:
        """Breadth first: a node fails over to its longest suffix that begins a word."""
        # next_node: (2, vocab) of ROOT and DEAD grows to (nodes, vocab).
        size, vocab_size = len(self.children), self.next_node.shape[1]
        base = self.next_node
        self.next_node = torch.full((size, vocab_size), self.DEAD)
        self.next_node[:2] = base
        # Pieces that begin words themselves ("▁the") may begin a phrase anywhere.
        begins = [
            token
            for token in self.children[self.ROOT]
            if token in self.starts or token in self.unspaced
        ]
        for token in begins:
            self.next_node[self.DEAD, token] = self.children[self.ROOT][token]
        # A node's failure link is shallower, so in this order its row is already complete.
        failure = [self.DEAD] * size
        for token, child in self.children[self.ROOT].items():
            if self.separate_space and token in self.unspaced:
                failure[child] = self.ROOT
        queue = [self.ROOT]
        for node in queue:
            # Where no child fits, go where the suffix goes ...
            if node != self.ROOT:
                self.next_node[node] = self.next_node[failure[node]]
            for token, child in self.children[node].items():
                if node != self.ROOT:
                    failure[child] = int(self.next_node[failure[node], token])
                    # ... whose phrases end here as well.
                    self.completed[child] += self.completed[failure[child]]
                queue.append(child)
            for token, child in self.children[node].items():
                self.next_node[node, token] = child

    def gain(self, bonus: float) -> Float[Tensor, "nodes vocab"]:
        """What each token adds at each node.

        A token one deeper into a phrase adds one bonus; one that breaks a phrase off takes back
        what its node was given, and keeps what was completed where a word ends.
        """
        depth = torch.tensor(self.depth)
        gain = depth[self.next_node] - depth[:, None]
        completed = torch.tensor(self.completed)[:, None]
        boundary = [*sorted(self.starts | self.unspaced), EOS]
        # (nodes, vocab): where a word ends, a phrase that ended with it is kept.
        kept = torch.zeros_like(gain)
        kept[:, boundary] = 1
        kept[torch.tensor(self.ends_anywhere)] = 1
        gain += kept * completed
        gain[:, [BLANK, BOS, SIL]] = 0
        return bonus * gain.float()

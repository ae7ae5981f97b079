"""What a beam search listens to besides the joint model: n-grams, phrases to expect, a text model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.errors import CheckpointError
from speechmm.models.bundle import load_language_model
from speechmm.models.kv_cache import DecoderCache
from speechmm.models.language_model import LanguageModel
from speechmm.text.ngram import END, START, NgramModel
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import BLANK, BOS, EOS, SIL, SPACE, UNK, Tokenizer


@runtime_checkable
class ScorerState(Protocol):
    """The hypotheses of one running search, seen by one scorer."""

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """What each token would add to each hypothesis (natural log)."""
        ...

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Hypothesis ``i`` now is what ``rows[i]`` was, with ``tokens[i]`` behind it."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Something that has an opinion on texts."""

    weight: float
    most_per_token: float
    """The most that one more token can add, before the weight: 0 for log-probabilities."""

    def start(self, batch: int, device: torch.device) -> ScorerState:
        """``batch`` empty hypotheses."""
        ...


def word_starts(tokenizer: Tokenizer) -> list[int]:
    """Ids after which a new word has begun: the space piece, or the pieces that begin with it."""
    return [i for i, piece in enumerate(tokenizer.pieces) if piece.startswith(SPACE)]


class NgramScorer:
    """Shallow fusion with word n-grams: a word is judged when the next one begins.

    Source: Hori et al. 2018, "End-to-end speech recognition with word-based RNN language models",
    without its look-ahead.
    """

    most_per_token = 0.0

    def __init__(self, model: NgramModel, tokenizer: Tokenizer, weight: float):
        """Prepares the words of the model.

        Args:
            model: The n-grams; their words are looked up as the tokenizer's normalizer has them.
            tokenizer: Spells the words.
            weight: Of the log-probabilities.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.weight = weight
        self.starts = torch.tensor(word_starts(tokenizer))
        normal = {normalize(word, tokenizer.normalizer): word for word in sorted(model.vocabulary)}
        self.spelling = {**normal, **{word: word for word in model.vocabulary}}
        self._known: dict[tuple[tuple[str, ...], str], tuple[float, float]] = {}

    def start(self, batch: int, device: torch.device) -> _NgramState:
        """``batch`` empty hypotheses."""
        return _NgramState(self, batch, device)

    def judge(self, context: tuple[str, ...], word: str) -> tuple[float, float]:
        """What it adds when a word ends, and when the sentence ends with it."""
        key = (context, word)
        if key not in self._known:
            known = self.spelling.get(word, word)
            ended = self.model.score(known, context) if word else 0.0
            after = (*context, known) if word else context
            self._known[key] = ended, ended + self.model.score(END, after)
        return self._known[key]

    def after(self, context: tuple[str, ...], word: str) -> tuple[str, ...]:
        """The context once a word has ended, no longer than the model looks back."""
        kept = max(1, self.model.order - 1)
        return (*context, self.spelling.get(word, word))[-kept:] if word else context


class _NgramState:
    def __init__(self, scorer: NgramScorer, batch: int, device: torch.device):
        self.scorer = scorer
        self.device = device
        self.contexts: list[tuple[str, ...]] = [(START,)] * batch
        self.words = [""] * batch

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """The finished word's log-probability where a word begins; with the end's at EOS."""
        pairs = zip(self.contexts, self.words, strict=True)
        judged = torch.tensor([self.scorer.judge(context, word) for context, word in pairs])
        out = torch.zeros(len(self.words), self.scorer.tokenizer.vocab_size)
        out[:, self.scorer.starts] = judged[:, :1]
        out[:, EOS] = judged[:, 1]
        return out.to(self.device)

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Words grow by pieces and end where the next one begins."""
        pieces, contexts, words = self.scorer.tokenizer.pieces, [], []
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            context, word, piece = self.contexts[row], self.words[row], pieces[token]
            if piece.startswith(SPACE):
                context, word = self.scorer.after(context, word), ""
            contexts.append(context)
            words.append(word + piece.removeprefix(SPACE))
        self.contexts, self.words = contexts, words


class HotwordScorer:
    """Makes phrases likelier: a bonus for each token of each occurrence of a phrase.

    It is paid token by token, so that the beam keeps a phrase that has begun, and taken back where
    the phrase is not completed. Phrases begin and end with words. The state of a hypothesis is a
    node of an Aho-Corasick automaton over token ids, so a step is two look-ups in tables. Source:
    Aho and Corasick 1975, "Efficient string matching"; Zhao et al. 2019, "Shallow-fusion
    end-to-end contextual biasing".
    """

    weight = 1.0

    def __init__(self, phrases: Iterable[str], tokenizer: Tokenizer, bonus: float):
        """Builds the automaton.

        Args:
            phrases: Words or several words; those the tokenizer cannot spell are left out.
            tokenizer: Spells them.
            bonus: Added per token of a phrase (natural log).
        """
        starts = set(word_starts(tokenizer))
        spelled = {tuple(tokenizer.encode(phrase)) for phrase in phrases}
        spelled = {tokens for tokens in spelled if tokens and UNK not in tokens}
        automaton = _Automaton(spelled, starts, tokenizer.vocab_size, tokenizer.kind)
        self.next_node = automaton.next_node
        self.gain = automaton.gain(bonus)
        self.most_per_token = max(0.0, float(self.gain.max()))
        self.start_node = automaton.ROOT

    def start(self, batch: int, device: torch.device) -> _HotwordState:
        """``batch`` empty hypotheses."""
        return _HotwordState(self, batch, device)


class _HotwordState:
    def __init__(self, scorer: HotwordScorer, batch: int, device: torch.device):
        self.next_node = scorer.next_node.to(device)
        self.gain = scorer.gain.to(device)
        self.nodes = torch.full((batch,), scorer.start_node, device=device)

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """Bonus of each token, or what it loses."""
        return self.gain[self.nodes]

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Every hypothesis to its next node."""
        self.nodes = self.next_node[self.nodes[rows], tokens]


class _Automaton:
    """Nodes are prefixes of phrases; two more say that a word has begun, or that none fits."""

    ROOT, DEAD = 0, 1

    def __init__(self, phrases: set[tuple[int, ...]], starts: set[int], vocab_size: int, kind: str):
        self.starts = starts
        self.children: list[dict[int, int]] = [{}, {}]
        self.depth = [0, 0]
        self.paid = [0, 0]
        """Tokens of the phrases that end with a node, when a word ends there too."""
        self.next_node = torch.full((2, vocab_size), self.DEAD)
        if kind in ("char", "phone"):  # the space piece stands alone: what follows begins a word
            self.next_node[:, sorted(starts)] = self.ROOT
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
                self.paid.append(0)
            node = self.children[node][token]
        self.paid[node] = self.depth[node]

    def _link(self) -> None:
        """Breadth first: a node falls back to the longest end of it that begins a word."""
        size, vocab_size = len(self.children), self.next_node.shape[1]
        base = self.next_node
        self.next_node = torch.full((size, vocab_size), self.DEAD)
        self.next_node[:2] = base
        begins = [token for token in self.children[self.ROOT] if token in self.starts]
        for token in begins:  # pieces that begin words themselves do so anywhere
            self.next_node[self.DEAD, token] = self.children[self.ROOT][token]
        fallback = [self.DEAD] * size
        queue = [self.ROOT]
        for node in queue:
            if node != self.ROOT:
                self.next_node[node] = self.next_node[fallback[node]]
            for token, child in self.children[node].items():
                if node != self.ROOT:
                    fallback[child] = int(self.next_node[fallback[node], token])
                    self.paid[child] += self.paid[fallback[child]]
                queue.append(child)
            for token, child in self.children[node].items():
                self.next_node[node, token] = child

    def gain(self, bonus: float) -> Float[Tensor, "nodes vocab"]:
        """What each token adds at each node: what is pending then but not now, and what is paid."""
        depth = torch.tensor(self.depth)
        gain = depth[self.next_node] - depth[:, None]
        boundary = [*sorted(self.starts), EOS]
        gain[:, boundary] += torch.tensor(self.paid)[:, None]
        gain[:, [BLANK, BOS, SIL]] = 0
        return bonus * gain.float()


class LanguageModelScorer:
    """Shallow fusion with a language model over the same tokens, all hypotheses in one step.

    Source: Gulcehre et al. 2015, "On Using Monolingual Corpora in Neural Machine Translation".
    """

    most_per_token = 0.0

    def __init__(self, model: LanguageModel, weight: float):
        """Keeps the model, which is to be in evaluation mode."""
        self.model = model
        self.weight = weight

    def start(self, batch: int, device: torch.device) -> _LanguageModelState:
        """``batch`` empty hypotheses."""
        return _LanguageModelState(self.model.to(device), batch)


class _LanguageModelState:
    def __init__(self, model: LanguageModel, batch: int):
        self.model = model
        self.cache: DecoderCache = model.start(batch)
        self.next_log_probs = model.step(None, self.cache).log_softmax(dim=-1)

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """Log-probabilities of the next token."""
        return self.next_log_probs

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """One step of the model for all hypotheses."""
        self.cache.reorder(rows)
        self.next_log_probs = self.model.step(tokens, self.cache).log_softmax(dim=-1)


def load_language_scorer(path: Path, tokenizer: Tokenizer, weight: float) -> Scorer:
    """An ARPA file, or the bundle of a language model over the same pieces.

    Raises:
        ManifestError: The ARPA file cannot be used.
        CheckpointError: The bundle cannot be used, or has another tokenizer.
    """
    if not path.is_dir():
        return NgramScorer(NgramModel.read(path), tokenizer, weight)
    bundle = load_language_model(path)
    if bundle.tokenizer.pieces != tokenizer.pieces:
        raise CheckpointError(
            f"{path}: has another tokenizer than the model ({bundle.tokenizer.vocab_size} pieces "
            f"and {tokenizer.vocab_size}); expected the same one. Train it with the model's "
            "tokenizer.json."
        )
    return LanguageModelScorer(bundle.model, weight)


def total_scores(
    states: Sequence[ScorerState], weights: Sequence[float]
) -> Float[Tensor, "rows vocab"] | None:
    """The weighted sum of all scorers' opinions; None when there is nobody to ask."""
    total: Tensor | None = None
    for state, weight in zip(states, weights, strict=True):
        part = weight * state.scores()
        total = part if total is None else total + part
    return total

"""Scores hypotheses with a word n-gram model, each word when the next one begins."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.inference.recognition.fusion.scorer import rows_of, word_starts
from speechmm.text.ngram import END, START, UNKNOWN_WORD, NgramModel
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import EOS, SPACE, Tokenizer

MOST_KEPT = 1 << 17
"""Scores of words that are kept: beams ask for the same ones again."""


class NgramScorer:
    """Shallow fusion with word n-grams: a word is scored when the next one begins.

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
        self.word_starts = torch.tensor(word_starts(tokenizer))
        words = sorted(model.vocabulary - {START, END, UNKNOWN_WORD})
        normal = {normalize(word, tokenizer.normalizer): word for word in words}
        self.spelling = {**normal, **{word: word for word in words}}
        self._kept_scores = lru_cache(MOST_KEPT)(self._scores)

    def start(self, batch: int, device: torch.device) -> _NgramState:
        """The state of ``batch`` empty hypotheses."""
        return _NgramState(self, batch, device)

    def word_scores(self, context: tuple[str, ...], word: str) -> tuple[float, float]:
        """Log-probability of a word that ends, alone and with the end of the sentence after it."""
        return self._kept_scores(context, word)

    def _scores(self, context: tuple[str, ...], word: str) -> tuple[float, float]:
        known = self.spelling.get(word, word)
        log_prob = self.model.score(known, context) if word else 0.0
        after = (*context, known) if word else context
        return log_prob, log_prob + self.model.score(END, after)

    def extend(self, context: tuple[str, ...], word: str) -> tuple[str, ...]:
        """The context once a word has ended, no longer than the model looks back."""
        kept = max(1, self.model.order - 1)
        return (*context, self.spelling.get(word, word))[-kept:] if word else context


class _NgramState:
    def __init__(self, scorer: NgramScorer, batch: int, device: torch.device):
        self.scorer = scorer
        self.device = device
        self.contexts: list[tuple[str, ...]] = [(START,)] * batch
        self.words = [""] * batch
        """The letters so far of each hypothesis's last word."""

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """The last word's log-probability where the next one begins; with the end's at EOS."""
        pairs = zip(self.contexts, self.words, strict=True)
        ended = torch.tensor([self.scorer.word_scores(context, word) for context, word in pairs])
        out = torch.zeros(len(self.words), self.scorer.tokenizer.vocab_size)
        out[:, self.scorer.word_starts] = ended[:, :1]
        out[:, EOS] = ended[:, 1]
        return out.to(self.device)

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Words grow by pieces and end where the next one begins."""
        pieces, contexts, words = self.scorer.tokenizer.pieces, [], []
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            context, word, piece = self.contexts[row], self.words[row], pieces[token]
            if piece.startswith(SPACE):
                context, word = self.scorer.extend(context, word), ""
            contexts.append(context)
            words.append(word + piece.removeprefix(SPACE))
        self.contexts, self.words = contexts, words

    def keep_utterances(self, utterances: Int[Tensor, " left"], beams: int) -> None:
        """Drops the words of all others."""
        rows = rows_of(utterances, beams).tolist()
        self.contexts = [self.contexts[row] for row in rows]
        self.words = [self.words[row] for row in rows]

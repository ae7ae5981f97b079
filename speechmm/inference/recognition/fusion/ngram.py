"""Scores hypotheses with a word n-gram model, each word when the next one begins."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.inference.recognition.fusion.scorer import rows_of
from speechmm.inference.recognition.fusion.words import WordEnds
from speechmm.text.ngram import END, START, UNKNOWN_WORD, NgramModel, Words
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import EOS, Tokenizer

MOST_KEPT = 1 << 17
"""Scores of words that are kept: beams ask for the same ones again."""


class NgramScorer:
    """Shallow fusion with word n-grams: a word is scored when the next one begins.

    Words are those of `alignments.scripts.written_words`: letters, in scripts without spaces.

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
        self.weight = weight
        self.ends = WordEnds(tokenizer)
        words = sorted(model.vocabulary - {START, END, UNKNOWN_WORD})
        normal = {normalize(word, tokenizer.normalizer): word for word in words}
        self.spelling = {**normal, **{word: word for word in words}}
        self._kept_scores = lru_cache(MOST_KEPT)(self._scores)

    def start(self, batch: int, device: torch.device) -> _NgramState:
        """The state of ``batch`` empty hypotheses."""
        return _NgramState(self, batch, device)

    def word_scores(self, context: Words, words: Words) -> tuple[float, float]:
        """Log-probability of words that end, alone and with the end of the sentence after them."""
        return self._kept_scores(context, words)

    def _scores(self, context: Words, words: Words) -> tuple[float, float]:
        total = 0.0
        for word in filter(None, words):
            total += self.model.score(self.spelling.get(word, word), context)
            context = self.extend(context, (word,))
        return total, total + self.model.score(END, context)

    def extend(self, context: Words, words: Words) -> Words:
        """The context once words have ended, no longer than the model looks back."""
        kept = max(1, self.model.order - 1)
        return (*context, *(self.spelling.get(word, word) for word in filter(None, words)))[-kept:]


class _NgramState:
    def __init__(self, scorer: NgramScorer, batch: int, device: torch.device):
        self.scorer = scorer
        self.device = device
        self.contexts: list[Words] = [(START,)] * batch
        self.words: list[Words] = [("",)] * batch
        """What is not scored yet of each hypothesis: its last word, which may go on, and any that one
        token has brought with it."""

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """The last word's log-probability where the next one begins; with the end's at EOS."""
        pairs = zip(self.contexts, self.words, strict=True)
        ended = torch.tensor([self.scorer.word_scores(context, words) for context, words in pairs])
        begins = torch.stack([self.scorer.ends.ended_by(words[-1]) for words in self.words])
        out = torch.where(begins, ended[:, :1], 0.0)
        out[:, EOS] = ended[:, 1]
        return out.to(self.device)

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Words grow by pieces and end where the next one begins."""
        grown = [
            self._grown(self.contexts[row], self.words[row], token)
            for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)
        ]
        self.contexts = [context for context, _ in grown]
        self.words = [words for _, words in grown]

    def _grown(self, context: Words, words: Words, token: int) -> tuple[Words, Words]:
        ends = self.scorer.ends
        if ends.starts[token]:
            return self.scorer.extend(context, words), tuple(ends.split("", token))
        parts = tuple(ends.split(words[-1], token))
        if words[-1] and len(parts) > 1:
            return self.scorer.extend(context, words), parts[1:]
        return context, (*words[:-1], *parts)

    def keep_utterances(self, utterances: Int[Tensor, " left"], beams: int) -> None:
        """Drops the words of all others."""
        rows = rows_of(utterances, beams).tolist()
        self.contexts = [self.contexts[row] for row in rows]
        self.words = [self.words[row] for row in rows]

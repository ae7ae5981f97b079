"""What a beam search may be told of a language's words: which there are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.errors import ConfigError
from speechmm.inference.recognition.fusion.scorers import word_starts
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import EOS, SPACE, SPECIALS, UNK, Tokenizer


class WordListScorer:
    """Makes words that are in no list dearer, however likely the listed ones are.

    The price is paid once a word, with the first piece that makes it unlike all listed ones, so that
    beams do not fill with what will be dear in the end. What is said of whole sentences does not
    depend on when it is paid. Source: the look-ahead of Hori et al. 2018, "End-to-end speech
    recognition with word-based RNN language models", for a vocabulary instead of a word model.
    """

    weight = 1.0
    most_per_token = 0.0

    def __init__(self, texts: Iterable[str], tokenizer: Tokenizer, price: float):
        """Prepares the list.

        Args:
            texts: Words, or texts whose words are meant, as written.
            tokenizer: Spells them.
            price: Of a word that is not listed (natural log).

        Raises:
            ConfigError: There is no word.
        """
        self.tokenizer = tokenizer
        self.price = price
        normal = (normalize(text, tokenizer.normalizer) for text in texts)
        self.words = sorted({word for text in normal for word in text.split()})
        if not self.words:
            raise ConfigError("words: found none in the lists; expected at least one. Check them.")
        self._rows: dict[str | None, Float[Tensor, " vocab"]] = {}
        pieces = [piece.removeprefix(SPACE) for piece in tokenizer.pieces]
        self._starts = torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
        self._starts[word_starts(tokenizer)] = True
        self._begun = torch.tensor([0.0 if self.begins(piece) else -price for piece in pieces])

    def begins(self, letters: str) -> bool:
        """Whether these letters are a listed word or the beginning of one."""
        return self._next(letters).startswith(letters)

    def listed(self, word: str) -> bool:
        """Whether the word is in the list."""
        return self._next(word) == word

    def _next(self, letters: str) -> str:
        """The first word that is not before these letters; none is an empty one."""
        place = bisect_left(self.words, letters)
        return self.words[place] if place < len(self.words) else ""

    def start(self, batch: int, device: torch.device) -> _WordListState:
        """``batch`` empty hypotheses."""
        return _WordListState(self, batch, device)

    def row(self, letters: str | None) -> Float[Tensor, " vocab"]:
        """What each token costs after the letters of a word; None: after one already paid for."""
        if letters not in self._rows:
            self._rows[letters] = self._row(letters)
        return self._rows[letters]

    def after(self, letters: str | None, token: int) -> str | None:
        """The letters of the word once the token is there, None once it is paid for."""
        piece = self.tokenizer.pieces[token]
        if piece.startswith(SPACE):
            letters = ""
        if letters is None:
            return None
        letters += piece.removeprefix(SPACE)
        return letters if self.begins(letters) else None

    def _row(self, letters: str | None) -> Float[Tensor, " vocab"]:
        ended = -self.price if letters and not self.listed(letters) else 0.0
        row = torch.where(self._starts, self._begun + ended, 0.0)
        if letters is not None:
            pieces = self.tokenizer.pieces
            longer = torch.tensor([self.begins(letters + piece) for piece in pieces])
            row[~(self._starts | longer)] = -self.price
        row[: len(SPECIALS)] = 0.0
        row[UNK] = 0.0 if letters is None else -self.price
        row[EOS] = ended
        return row


class _WordListState:
    def __init__(self, scorer: WordListScorer, batch: int, device: torch.device):
        self.scorer = scorer
        self.device = device
        self.words: list[str | None] = [""] * batch

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """What each token costs each hypothesis."""
        return torch.stack([self.scorer.row(letters) for letters in self.words]).to(self.device)

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Words grow by pieces and end where the next one begins."""
        pairs = zip(rows.tolist(), tokens.tolist(), strict=True)
        self.words = [self.scorer.after(self.words[row], token) for row, token in pairs]

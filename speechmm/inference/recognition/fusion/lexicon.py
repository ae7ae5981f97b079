"""Penalises words outside a lexicon during a search, as soon as no listed word can follow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.errors import ConfigError
from speechmm.inference.recognition.fusion.scorer import rows_of, word_starts
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import EOS, SPACE, SPECIALS, UNK, Tokenizer

MOST_BYTES = 1 << 28
"""Of the rows that are kept: beams ask for the same ones again."""


class LexiconScorer:
    """Penalises out-of-lexicon words, however likely the listed ones are.

    A word is penalised once, at the first piece that makes it unlike all listed ones, so that beams
    do not fill with hypotheses that lose in the end. The score of a whole sentence does not depend
    on when that is. Source: the look-ahead of Hori et al. 2018, "End-to-end speech recognition with
    word-based RNN language models", for a lexicon instead of a word model.
    """

    weight = 1.0
    most_per_token = 0.0

    def __init__(self, texts: Iterable[str], tokenizer: Tokenizer, oov_penalty: float):
        """Prepares the lexicon.

        Args:
            texts: Words, or texts whose words are meant, as written.
            tokenizer: Spells them.
            oov_penalty: Taken off the score per word that is not listed (natural log).

        Raises:
            ConfigError: There is no word.
        """
        self.tokenizer = tokenizer
        self.oov_penalty = oov_penalty
        normal = (normalize(text, tokenizer.normalizer) for text in texts)
        self.words = sorted({word for text in normal for word in text.split()})
        if not self.words:
            raise ConfigError("words: found none in the lists; expected at least one. Check them.")
        row_bytes = tokenizer.vocab_size * torch.float32.itemsize
        self._kept_row = lru_cache(max(1, MOST_BYTES // row_bytes))(self._row)
        pieces = [piece.removeprefix(SPACE) for piece in tokenizer.pieces]
        self._starts = torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
        self._starts[word_starts(tokenizer)] = True
        self._as_first = torch.tensor([0.0 if self.is_prefix(p) else -oov_penalty for p in pieces])

    def is_prefix(self, letters: str) -> bool:
        """Whether these letters are a listed word or the beginning of one."""
        return self._first_from(letters).startswith(letters)

    def is_word(self, letters: str) -> bool:
        """Whether these letters are a listed word."""
        return self._first_from(letters) == letters

    def _first_from(self, letters: str) -> str:
        """The first listed word that does not sort before these letters; empty at the end."""
        place = bisect_left(self.words, letters)
        return self.words[place] if place < len(self.words) else ""

    def start(self, batch: int, device: torch.device) -> _LexiconState:
        """The state of ``batch`` empty hypotheses."""
        return _LexiconState(self, batch, device)

    def row(self, letters: str | None) -> Float[Tensor, " vocab"]:
        """Score of each token after the letters of a word; None: after one already penalised."""
        return self._kept_row(letters)

    def extend(self, letters: str | None, token: int) -> str | None:
        """The letters of the last word once the token is there; None once it is penalised."""
        piece = self.tokenizer.pieces[token]
        if piece.startswith(SPACE):
            letters = ""
        if letters is None:
            return None
        letters += piece.removeprefix(SPACE)
        return letters if self.is_prefix(letters) else None

    def _row(self, letters: str | None) -> Float[Tensor, " vocab"]:
        # A word that ends before it is a listed one is penalised where it ends.
        at_end = -self.oov_penalty if letters and not self.is_word(letters) else 0.0
        # (vocab,): pieces that begin a word end the last one, and may be no prefix themselves.
        row = torch.where(self._starts, self._as_first + at_end, 0.0)
        # Pieces that continue the word are penalised where no listed word goes on like this.
        if letters is not None:
            pieces = self.tokenizer.pieces
            continues = torch.tensor([self.is_prefix(letters + piece) for piece in pieces])
            row[~(self._starts | continues)] = -self.oov_penalty
        # Special tokens are no letters; an unknown one makes the word unlike all listed ones.
        row[: len(SPECIALS)] = 0.0
        row[UNK] = 0.0 if letters is None else -self.oov_penalty
        row[EOS] = at_end
        return row


class _LexiconState:
    def __init__(self, scorer: LexiconScorer, batch: int, device: torch.device):
        self.scorer = scorer
        self.device = device
        self.words: list[str | None] = [""] * batch
        """The letters so far of each hypothesis's last word; None where it is penalised already."""

    def scores(self) -> Float[Tensor, "rows vocab"]:
        """What each token takes off the score of each hypothesis."""
        return torch.stack([self.scorer.row(letters) for letters in self.words]).to(self.device)

    def advance(self, rows: Int[Tensor, " kept"], tokens: Int[Tensor, " kept"]) -> None:
        """Words grow by pieces and end where the next one begins."""
        pairs = zip(rows.tolist(), tokens.tolist(), strict=True)
        self.words = [self.scorer.extend(self.words[row], token) for row, token in pairs]

    def keep_utterances(self, utterances: Int[Tensor, " left"], beams: int) -> None:
        """Drops the words of all others."""
        self.words = [self.words[row] for row in rows_of(utterances, beams).tolist()]

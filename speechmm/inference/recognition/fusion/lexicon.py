"""Penalises words outside a lexicon during a search, as soon as no listed word can follow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.alignments.scripts import is_unspaced, written_words
from speechmm.errors import ConfigError
from speechmm.inference.recognition.fusion.scorer import rows_of
from speechmm.inference.recognition.fusion.words import WordEnds
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import EOS, SPECIALS, UNK, Tokenizer

MOST_BYTES = 1 << 28
"""Of the rows that are kept: beams ask for the same ones again."""


_PENALISED = "\0"
"""Stands before the letter of a script without spaces that is in no list; what follows it may be of it,
such as a vowel sign. Of words of other scripts nothing need be known then: None stands for them."""


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
        self.oov_penalty = oov_penalty
        normal = (normalize(text, tokenizer.normalizer) for text in texts)
        self.words = sorted({word for text in normal for word in written_words(text)})
        if not self.words:
            raise ConfigError("words: found none in the lists; expected at least one. Check them.")
        row_bytes = tokenizer.vocab_size * torch.float32.itemsize
        self._kept_row = lru_cache(max(1, MOST_BYTES // row_bytes))(self._row)
        self.ends = WordEnds(tokenizer)
        self._as_first = self._penalties("", range(tokenizer.vocab_size))

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
        """The letters of the last word once the token is there; a penalised one is as `_PENALISED` says."""
        if self.ends.starts[token]:
            letters = ""
        if letters is None and not is_unspaced(self.ends.letters[token]):
            return None
        penalised = (letters or "").startswith(_PENALISED)
        parts = self.ends.split((letters or "").removeprefix(_PENALISED), token)
        if not (penalised and len(parts) == 1) and self.is_prefix(parts[-1]):
            return parts[-1]
        return _PENALISED + parts[-1] if is_unspaced(parts[-1]) else None

    def _penalties(self, letters: str, tokens: Iterable[int]) -> Float[Tensor, " tokens"]:
        """What tokens that go on with these letters are penalised by, for words that end or cannot be."""
        counts = []
        for token in tokens:
            parts = self.ends.split(letters.removeprefix(_PENALISED), token)
            known = 1 if letters.startswith(_PENALISED) else 0
            ended = sum(not self.is_word(word) for word in parts[known:-1])
            counts.append(ended + (len(parts) > known and not self.is_prefix(parts[-1])))
        return -self.oov_penalty * torch.tensor(counts, dtype=torch.float32)

    def _row(self, letters: str | None) -> Float[Tensor, " vocab"]:
        is_open = bool(letters) and not (letters or "").startswith(_PENALISED)
        # A word that ends before it is a listed one is penalised where it ends.
        at_end = -self.oov_penalty if is_open and not self.is_word(letters or "") else 0.0
        starts = self.ends.starts
        # (vocab,): pieces that begin a word end the last one, and may be no prefix themselves.
        row = torch.where(starts, self._as_first + at_end, 0.0)
        # Pieces that continue the word are penalised where no listed word goes on like this.
        if letters is not None:
            others = (~starts).nonzero()[:, 0]
            row[others] = self._penalties(letters, others.tolist())
        elif self.ends.unspaced:  # nothing more for this word, but for those that follow it
            begins = torch.tensor([is_unspaced(one) for one in self.ends.letters]) & ~starts
            row[begins] = self._as_first[begins]
        # Special tokens are no letters; an unknown one makes the word unlike all listed ones.
        row[: len(SPECIALS)] = 0.0
        row[UNK] = -self.oov_penalty if letters is not None and (is_open or not letters) else 0.0
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

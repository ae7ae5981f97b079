"""Tells where words end while a hypothesis grows: at spaces, in scripts without spaces at each letter."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Bool
from torch import Tensor

from speechmm.alignments.scripts import is_unspaced, pieces
from speechmm.inference.recognition.fusion.scorer import word_starts
from speechmm.text.tokenizer import SPACE, SPECIALS, UNK, Tokenizer

MOST_KEPT = 1 << 12
"""Rows that are kept, one for each letter of a script without spaces that beams meet."""


class WordEnds:
    """Words as `alignments.scripts.written_words` counts them, of texts that grow token by token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Looks at all pieces of a tokenizer."""
        self.letters = [piece.removeprefix(SPACE) for piece in tokenizer.pieces]
        """What each token adds to a word."""
        self.starts = torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
        """Tokens after which a new word has begun, whatever was before."""
        self.starts[word_starts(tokenizer)] = True
        self.unspaced = any(map(is_unspaced, tokenizer.pieces))
        """Whether there is a letter of a script without spaces."""
        self._kept_row = lru_cache(MOST_KEPT)(self._row)

    def split(self, word: str, token: int) -> list[str]:
        """A word with the letters of a token: itself, or several, the last of which may go on."""
        joined = word + self.letters[token]
        return pieces(joined) if self.unspaced else [joined]

    def ended_by(self, word: str) -> Bool[Tensor, " vocab"]:
        """The tokens that end this word and begin another one."""
        if not (self.unspaced and word):
            return self.starts
        # Of words of other scripts all end alike: where a letter of a script without spaces comes.
        return self._kept_row(pieces(word)[-1] if is_unspaced(word) else "a")

    def _row(self, word: str) -> Bool[Tensor, " vocab"]:
        ends = [len(pieces(word + letters)) > 1 for letters in self.letters]
        row = torch.tensor(ends)
        row[: len(SPECIALS)] = False  # no letters, but for an unknown one
        row[UNK] = ends[UNK]
        return row | self.starts

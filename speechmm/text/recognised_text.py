"""Takes what recognition has written as words, and as the tokens that alignment places for them."""

from collections.abc import Sequence

from speechmm.text.tokenizer import SIL, SPACE, AlignedTokens, Tokenizer


def word_places(tokenizer: Tokenizer, ids: Sequence[int]) -> list[list[int]]:
    """The places of each word's ids; there may be words without a letter.

    Args:
        tokenizer: That has the pieces.
        ids: That recognition has written.
    """
    groups: list[list[int]] = []
    for place, token in enumerate(ids):
        if not groups or tokenizer.pieces[token].startswith(SPACE):
            groups.append([])
        groups[-1].append(place)
    return groups


def align_recognised(tokenizer: Tokenizer, ids: Sequence[int]) -> AlignedTokens:
    """What recognition has written as the aligner takes it, with silence before, between and after words.

    Phones are taken as they are: as a text they would be pronounced once more, letter by letter.

    Args:
        tokenizer: Of the model.
        ids: That recognition has written.
    """
    if tokenizer.kind != "phone":
        return tokenizer.encode_aligned(tokenizer.decode(ids))
    aligned = AlignedTokens([SIL], [-1], [], pronounced=True)
    for places in word_places(tokenizer, ids):
        word = [ids[place] for place in places if tokenizer.aligned_counts[ids[place]]]
        if word:
            aligned.ids.extend([*word, SIL])
            aligned.word_indices.extend([len(aligned.words)] * len(word) + [-1])
            aligned.words.append(tokenizer.decode(word))
    return aligned

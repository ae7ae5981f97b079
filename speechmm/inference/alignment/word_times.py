"""Times the words of recognised texts, by the alignment head or by CTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from speechmm.alignments import Segment
from speechmm.inference.alignment.ctc_utterances import CtcPosteriors, place_by_ctc
from speechmm.inference.alignment.head_alignment import place_words
from speechmm.models.bundle import Bundle
from speechmm.models.speech_text import SpeechEncoding
from speechmm.text.recognised_text import align_recognised


def time_words(
    bundle: Bundle,
    *,
    encoding: SpeechEncoding,
    words: Sequence[list[Segment]],
    ids: Sequence[Sequence[int]],
    seconds: Sequence[float],
) -> list[list[Segment]]:
    """Sets the times of recognised words with the alignment head; with CTC if only that is trained.

    Args:
        bundle: The model, and what belongs to it.
        encoding: The encoded speech the words were recognised from.
        words: Of each utterance.
        ids: That recognition has written, of each utterance; they are those of its words.
        seconds: Of audio of each utterance.

    Returns:
        The same words, in seconds from the start of the utterance. Where the text has more tokens
        than there are frames, or nothing was trained that could place it, the words share the
        time equally.
    """
    model, tokenizer, features = bundle.model, bundle.tokenizer, bundle.features
    texts = [align_recognised(tokenizer, written) for written in ids]
    ctc = CtcPosteriors(model, tokenizer, features) if "ctc" in bundle.heads else None
    placed: Sequence[list[Segment] | None] = [None] * len(texts)
    if "align" in bundle.heads:
        placed = place_words(model, features, ctc, encoding=encoding, texts=texts, seconds=seconds)
    elif ctc is not None:
        utterances = ctc.utterances(encoding, texts, seconds)
        placed = [place_by_ctc(one, text) for one, text in zip(utterances, texts, strict=True)]
    timed: list[list[Segment]] = []
    for utterance, found, length in zip(words, placed, seconds, strict=True):
        if found is None:
            timed.append(_shared_equally(utterance, length))
            continue
        pairs = zip(utterance, found, strict=True)
        timed.append(
            [
                replace(word, start=at.start, end=at.end, letter_starts=at.letter_starts)
                for word, at in pairs
            ]
        )
    return timed


def _shared_equally(words: list[Segment], seconds: float) -> list[Segment]:
    share = seconds / max(1, len(words))
    return [
        replace(word, start=index * share, end=(index + 1) * share)
        for index, word in enumerate(words)
    ]

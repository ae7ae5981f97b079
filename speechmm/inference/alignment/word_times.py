"""When the words of a recognised text were said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from speechmm.alignments import Segment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.alignment import token_path
from speechmm.inference.alignment.token_path import FrameClock
from speechmm.inference.alignment.transcript_edits import DoubtLimits
from speechmm.inference.alignment.verification import SecondOpinion
from speechmm.models.bundle import Bundle
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import AlignedTokens


def time_words(
    bundle: Bundle,
    *,
    encoding: SpeechEncoding,
    words: Sequence[list[Segment]],
    seconds: Sequence[float],
) -> list[list[Segment]]:
    """Sets the times of recognised words with the alignment head; with CTC if only that is trained.

    Args:
        bundle: The model, and what belongs to it.
        encoding: The encoded speech the words were recognised from.
        words: Of each utterance.
        seconds: Of audio of each utterance.

    Returns:
        The same words, in seconds from the start of the utterance. Where the text has more tokens
        than there are frames, or nothing was trained that could place it, the words share the
        time equally.
    """
    model, tokenizer, features = bundle.model, bundle.tokenizer, bundle.features
    texts = [tokenizer.encode_aligned(" ".join(w.label for w in utterance)) for utterance in words]
    opinion = None
    if "ctc" in bundle.outputs:
        opinion = SecondOpinion(model, tokenizer, features, limits=DoubtLimits())
    placed: Sequence[list[Segment] | None] = [None] * len(texts)
    if "align" in bundle.outputs:
        placed = place_words(
            model, features, opinion, encoding=encoding, texts=texts, seconds=seconds
        )
    elif opinion is not None:
        placed = opinion.words(encoding, texts, seconds)
    timed: list[list[Segment]] = []
    for utterance, found, length in zip(words, placed, seconds, strict=True):
        if found is None:
            timed.append(_shared_equally(utterance, length))
            continue
        pairs = zip(utterance, found, strict=True)
        timed.append([replace(word, start=at.start, end=at.end) for word, at in pairs])
    return timed


def place_words(
    model: SpeechTextModel,
    features: LogMelConfig,
    opinion: SecondOpinion | None,
    *,
    encoding: SpeechEncoding,
    texts: Sequence[AlignedTokens],
    seconds: Sequence[float],
) -> list[list[Segment] | None]:
    """The words of each text where the alignment head has them.

    Args:
        model: Has the alignment head.
        features: Say how long a frame is.
        opinion: CTC's, which anchors the head; None where CTC was not trained.
        encoding: The encoded speech.
        texts: What is said in each utterance.
        seconds: Of audio of each utterance.

    Returns:
        Words in seconds from the start of the utterance; None where it has no word, or more
        tokens than frames.
    """
    frames = encoding.lengths.tolist()
    fitting = [
        row
        for row, text in enumerate(texts)
        if len(text.ids) > 1 and token_path.frames_needed(text) <= frames[row]
    ]
    placed: list[list[Segment] | None] = [None] * len(texts)
    if not fitting:
        return placed
    chosen = encoding.select(torch.tensor(fitting, device=encoding.encoded.device))
    some = [texts[row] for row in fitting]
    anchors = [] if opinion is None else opinion.anchors(chosen, some)
    _, paths = token_path.align_encoded(
        model, chosen, some, anchors=anchors, hop=features.frame_shift
    )
    for row, path in zip(fitting, paths, strict=True):
        clock = FrameClock.of(features, frames[row], seconds[row])
        placed[row] = token_path.word_segments(path, texts[row], clock)
    return placed


def _shared_equally(words: list[Segment], seconds: float) -> list[Segment]:
    share = seconds / max(1, len(words))
    return [
        replace(word, start=index * share, end=(index + 1) * share)
        for index, word in enumerate(words)
    ]

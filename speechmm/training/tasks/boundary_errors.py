"""Measures boundary errors while training: how far word edges are from those of a reference."""

from __future__ import annotations

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch
from speechmm.inference.alignment.ctc_utterances import CtcPosteriors
from speechmm.inference.alignment.head_alignment import place_words
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import Tokenizer


def boundary_errors_ms(
    model: SpeechTextModel,
    encoding: SpeechEncoding,
    batch: Batch,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    *,
    ctc_windows: bool,
) -> list[float]:
    """Absolute start and end errors (ms) of the words of every utterance with a reference.

    Words are matched by order; utterances whose words do not match the reference in number, and
    those with more tokens than frames, are left out.

    Args:
        model: Has the alignment head.
        encoding: Encoded speech of the batch.
        batch: The batch, with references.
        tokenizer: Says what the texts' words are.
        features: Say how long a frame is.
        ctc_windows: Whether the windows of CTC, which must be trained then, limit the head, as in
            ``align``.
    """
    known = [
        (row, one)
        for row, one in enumerate(batch.references)
        if one is not None and "word" in one.units
    ]
    if not known:
        return []
    ctc = CtcPosteriors(model, tokenizer, features) if ctc_windows else None
    placed = place_words(
        model,
        features,
        ctc,
        encoding=encoding.select(batch.feature_lengths.new_tensor([row for row, _ in known])),
        texts=[tokenizer.encode_aligned(batch.texts[row]) for row, _ in known],
        seconds=[one.duration for _, one in known],
    )
    errors: list[float] = []
    for words, (_, reference) in zip(placed, known, strict=True):
        truth = reference.units["word"]
        if words is None or len(words) != len(truth):
            continue
        for found, true in zip(words, truth, strict=True):
            errors.append(1000 * abs(found.start - true.start))
            errors.append(1000 * abs(found.end - true.end))
    return errors

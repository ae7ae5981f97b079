"""Boundary errors while training: how far the model's word edges are from known ones."""

from __future__ import annotations

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch
from speechmm.inference.aligner import word_segments
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import Tokenizer


def boundary_errors_ms(
    model: SpeechTextModel,
    encoding: SpeechEncoding,
    batch: Batch,
    tokenizer: Tokenizer,
    features: LogMelConfig,
) -> list[float]:
    """Absolute start and end errors (ms) of the words of every utterance with a reference.

    Words are matched by order; utterances whose words do not match the reference in number
    are left out.
    """
    log_probs = model.align_scores(encoding, batch.align_tokens)
    errors: list[float] = []
    for row, reference in enumerate(batch.references):
        if reference is None or "word" not in reference.units:
            continue
        frames = int(batch.feature_lengths[row])
        aligned = tokenizer.encode_aligned(batch.texts[row])
        scores = log_probs[row, :frames, : len(aligned.ids)]
        words = word_segments(scores, aligned, features, duration=reference.duration)
        truth = reference.units["word"]
        if len(words) != len(truth):
            continue
        for found, true in zip(words, truth, strict=True):
            errors.append(1000 * abs(found.start - true.start))
            errors.append(1000 * abs(found.end - true.end))
    return errors

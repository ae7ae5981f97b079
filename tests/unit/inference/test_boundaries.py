"""Boundary errors of validation: those of ``align``, utterance by utterance."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from speechmm.alignments import Alignment, Segment
from speechmm.audio.log_mel import compute_log_mel
from speechmm.data.batch import Batch
from speechmm.inference.alignment.aligner import Aligner
from speechmm.models.bundle import Bundle
from speechmm.training.tasks.boundary_errors import boundary_errors_ms


def known(speech: Any, words: list[Segment]) -> Alignment:
    return Alignment(id="one", duration=len(speech.waveform) / 16_000, units={"word": words})


@pytest.fixture
def spoken(tone_bundle: Bundle, speak: Callable) -> tuple[Batch, list]:
    """Three utterances: one with a reference, one without, one whose reference lacks a word."""
    said = [speak("ab cd", pauses=[0.25]), speak("c"), speak("ef gh ab", pauses=[0.4, 0.1])]
    features = [compute_log_mel(one.waveform, tone_bundle.features) for one in said]
    empty = torch.zeros(3, 0, dtype=torch.long)
    references: list[Alignment | None] = [
        known(said[0], said[0].words),
        None,
        known(said[2], said[2].words[1:]),
    ]
    batch = Batch(
        ids=["0", "1", "2"],
        features=torch.nn.utils.rnn.pad_sequence(features, batch_first=True),
        feature_lengths=torch.tensor([len(one) for one in features]),
        tokens=empty,
        token_lengths=torch.zeros(3, dtype=torch.long),
        align_tokens=empty,
        align_lengths=torch.zeros(3, dtype=torch.long),
        texts=[one.text for one in said],
        seconds=1.0,
        references=references,
        speakers=[""] * 3,
        speeds=[1.0] * 3,
        recombined=[False] * 3,
    )
    return batch, said


@pytest.mark.parametrize("ctc_windows", [True, False])
def test_errors_are_those_of_align(
    tone_bundle: Bundle, spoken: tuple[Batch, list], ctc_windows: bool
) -> None:
    batch, said = spoken
    model, tokenizer, features = tone_bundle.model, tone_bundle.tokenizer, tone_bundle.features
    with torch.inference_mode():
        encoding = model.encode_speech(batch.features, batch.feature_lengths)
    errors = boundary_errors_ms(
        model, encoding, batch, tokenizer, features, ctc_windows=ctc_windows
    )
    found = Aligner(tone_bundle).align(said[0].waveform, said[0].text).units["word"]
    expected = [
        1000 * abs(a - b)
        for one, true in zip(found, said[0].words, strict=True)
        for a, b in ((one.start, true.start), (one.end, true.end))
    ]
    assert errors == pytest.approx(expected)
    assert len(errors) == 4
    assert max(errors) < 20


def test_nothing_where_nothing_is_known_or_fits(
    tone_bundle: Bundle, spoken: tuple[Batch, list]
) -> None:
    batch, _ = spoken
    model, tokenizer, features = tone_bundle.model, tone_bundle.tokenizer, tone_bundle.features
    with torch.inference_mode():
        encoding = model.encode_speech(batch.features, batch.feature_lengths)
    batch.texts[0] = "ab cd " * 40  # more tokens than frames
    assert boundary_errors_ms(model, encoding, batch, tokenizer, features, ctc_windows=True) == []
    batch.references = [None] * 3
    assert boundary_errors_ms(model, encoding, batch, tokenizer, features, ctc_windows=True) == []

"""Whatever the scores: paths are monotone, visit what they must, and batches change nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.token_path import find_paths, token_segments, word_segments
from speechmm.inference.alignment.viterbi import monotonic_path, monotonic_paths, required_frames
from speechmm.inference.engine.chunks import MAX_PADDING, plan_batches
from speechmm.inference.recognition.transcriber import MAX_CHUNK_SECONDS, cut_blocks
from speechmm.text.tokenizer import SIL, AlignedTokens

LOG_PROBS = st.floats(-50.0, 0.0, width=32)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    skippable = np.array(draw(st.lists(st.booleans(), min_size=1, max_size=12)))
    frames = required_frames(skippable) + draw(st.integers(0, 30))
    shape = (frames, len(skippable))
    return draw(hnp.arrays(np.float32, shape, elements=LOG_PROBS)), skippable


@given(problems())
def test_paths_are_monotone_and_visit_every_token_they_must(
    problem: tuple[np.ndarray, np.ndarray],
) -> None:
    log_probs, skippable = problem
    path = monotonic_path(log_probs, skippable=skippable)
    assert len(path) == len(log_probs)
    moves = np.diff(path)
    assert ((moves >= 0) & (moves <= 2)).all()
    missed = set(range(len(skippable))) - set(path.tolist())
    assert all(skippable[token] for token in missed)


@given(problems(), st.integers(0, 20), st.integers(0, 5))
def test_padding_changes_no_path(
    problem: tuple[np.ndarray, np.ndarray], frames: int, tokens: int
) -> None:
    log_probs, skippable = problem
    padded = np.pad(log_probs, ((0, frames), (0, tokens)), constant_values=7.0)
    (path,) = monotonic_paths(
        padded[None],
        np.array([len(log_probs)]),
        np.array([len(skippable)]),
        skippable=np.pad(skippable, (0, tokens))[None],
    )
    assert path.tolist() == monotonic_path(log_probs, skippable=skippable).tolist()


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.integers(0, 40),
    st.integers(0, 159),
    st.integers(0, 2**32 - 1),
)
def test_segments_are_ordered_and_inside_the_audio(
    word_lengths: list[int], extra_frames: int, extra_samples: int, seed: int
) -> None:
    ids, owners = [SIL], [-1]
    for word, length in enumerate(word_lengths):
        if length:
            ids += [*range(5, 5 + length), SIL]
            owners += [word] * length + [-1]
    aligned = AlignedTokens(ids, owners, [f"w{word}" for word in range(len(word_lengths))])
    frames = max(1, sum(word_lengths)) + extra_frames
    duration = ((frames - 1) * 160 + extra_samples) / 16_000
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, frames, len(ids), generator=generator).log_softmax(-1)
    (path,) = find_paths(scores, torch.tensor([frames]), [aligned])
    clock = FrameGrid.of(LogMelConfig()).clock(frames, duration)
    words = word_segments(path, aligned, clock)
    assert [word.label for word in words] == aligned.words
    tokens = token_segments(path, aligned, [str(i) for i in ids], clock)
    assert len(tokens) == sum(word_lengths)
    for segments in (words, tokens):
        edges = [time for segment in segments for time in (segment.start, segment.end)]
        assert edges == sorted(edges)
        assert all(0.0 <= edge <= duration for edge in edges)
        assert all(0.0 <= segment.confidence <= 1.0 for segment in segments if segment.confidence)


@given(
    st.lists(st.integers(1, 400_000), max_size=60),
    st.integers(100_000, 2_000_000),
)
def test_batches_hold_each_item_once_with_little_padding(
    lengths: list[int], batch_samples: int
) -> None:
    batches = plan_batches(lengths, batch_samples)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        padded = longest * len(batch)
        assert padded <= batch_samples or len(batch) == 1
        assert 1 - sum(lengths[index] for index in batch) / padded <= MAX_PADDING


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_chunks_of_a_stream_are_the_stream(blocks: list[int], seed: int) -> None:
    rate = 1000
    generator = torch.Generator().manual_seed(seed)
    stream = [torch.randn(length, generator=generator) for length in blocks]
    position = 0
    chunks = []
    for first, chunk in cut_blocks(iter(stream), rate):
        assert first == position
        assert 0 < len(chunk) <= MAX_CHUNK_SECONDS * rate
        position += len(chunk)
        chunks.append(chunk)
    assert torch.equal(torch.cat(chunks), torch.cat(stream))


@pytest.mark.parametrize("batch_seconds", [0.5, 3.0, 100.0])
def test_batch_size_and_order_change_no_transcript(batch_seconds: float) -> None:
    from pathlib import Path

    from speechmm.inference.engine.sources import Source
    from speechmm.inference.recognition.options import SearchOptions
    from speechmm.inference.recognition.transcriber import Transcriber
    from speechmm.models.bundle import Bundle
    from speechmm.models.speech_text import SpeechTextModel
    from speechmm.models.speech_text_config import SpeechTextConfig
    from speechmm.text.tokenizer_training import train_tokenizer

    torch.manual_seed(1)
    tokenizer = train_tokenizer(["abcdefgh ijkl mnop"], kind="char")
    config = SpeechTextConfig(
        d_model=16, heads=2, ff_dim=32, encoder_layers=2, decoder_layers=1, align_dim=8
    )
    model = SpeechTextModel(config, vocab_size=tokenizer.vocab_size, n_mels=80).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # small random weights say nothing at all
            parameter.mul_(3.0)
    bundle = Bundle(model, tokenizer, LogMelConfig(), Path("random"), "")
    lengths = [800, 16_000, 4_000, 30_000, 12_345, 16_001, 320]
    sources = [
        Source(id=str(index), waveform=torch.randn(length).cumsum(0) / 50)
        for index, length in enumerate(lengths)
    ]
    for decoder in ("ctc", "joint"):
        transcriber = Transcriber(
            bundle, options=SearchOptions(decoder=decoder), batch_seconds=batch_seconds
        )
        alone = [next(transcriber.transcribe_sources([source])) for source in sources]
        together = list(transcriber.transcribe_sources(sources))
        reverse = list(transcriber.transcribe_sources(sources[::-1]))[::-1]
        assert any(row.text for row in alone)
        assert [row.text for row in together] == [row.text for row in alone]
        assert [row.text for row in reverse] == [row.text for row in alone]

"""Windows of guided attention: by tensors as by going through the words one after another."""

import pytest
import torch
import torch.nn.functional as F

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch, pad_tokens
from speechmm.errors import ConfigError
from speechmm.models.dropout import Dropout
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import SIL, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.tasks import Align, GuidedAttention, Step, TasksConfig, sum_losses
from speechmm.training.tasks.guided_attention import (
    FLOOR,
    MARGIN,
    guidance_loss,
    token_windows,
)

TEXTS = ["one twenty-two three", "five - one", "ten"]
SUBSAMPLING = 4


@pytest.fixture(scope="module", params=["char", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    size = None if request.param == "char" else 40
    return train_tokenizer(TEXTS * 3, kind=request.param, vocab_size=size)


def make_batch(tokenizer: Tokenizer, texts: list[str], frames: list[int]) -> Batch:
    tokens, token_lengths = pad_tokens([tokenizer.encode(text) for text in texts])
    aligned, align_lengths = pad_tokens([tokenizer.encode_aligned(text).ids for text in texts])
    return Batch(
        ids=texts,
        features=torch.zeros(len(texts), max(frames), 2),
        feature_lengths=torch.tensor(frames),
        tokens=tokens,
        token_lengths=token_lengths,
        align_tokens=aligned,
        align_lengths=align_lengths,
        texts=texts,
        seconds=1.0,
        references=[None] * len(texts),
        speakers=[""] * len(texts),
        speeds=[1.0] * len(texts),
        recombined=[False] * len(texts),
    )


def evenly(batch: Batch) -> torch.Tensor:
    """Every aligned token, silences too, as long as the others of its utterance."""
    frames, columns = batch.features.shape[1], batch.align_tokens.shape[1]
    occupancy = torch.zeros(len(batch), frames, columns)
    for row in range(len(batch)):
        length, number = int(batch.feature_lengths[row]), int(batch.align_lengths[row])
        for frame in range(length):
            occupancy[row, frame, frame * number // length] = 1.0
    return occupancy


def windows_word_by_word(
    tokenizer: Tokenizer, text: str, occupancy: torch.Tensor, enc_frames: int
) -> list[list[float] | None]:
    """The oracle: for every token the encoder frames near its aligned tokens' feature frames."""
    windows: list[list[float] | None] = []
    place = 1  # after the first silence
    for word in text.split():
        spans = tokenizer.encode_spans(word)
        if not spans:
            continue
        if windows and tokenizer.separator is not None:
            windows.append(None)
        for _, number in spans:
            frames = occupancy[:, place : place + number].sum(dim=1).nonzero().flatten().tolist()
            near = [
                float(any(abs(f / SUBSAMPLING - j) <= MARGIN + 0.5 for f in frames))
                for j in range(enc_frames)
            ]
            windows.append(near if number else None)
            place += number
        place += 1
    return windows


def test_windows_are_where_the_words_are(tokenizer: Tokenizer) -> None:
    batch = make_batch(tokenizer, TEXTS, [203, 120, 60])
    occupancy = evenly(batch)
    windows, guided = token_windows(
        batch, occupancy, torch.tensor(tokenizer.aligned_counts), SUBSAMPLING, 51
    )
    for row, text in enumerate(TEXTS):
        expected = windows_word_by_word(tokenizer, text, occupancy[row], 51)
        assert len(expected) == int(batch.token_lengths[row])
        for index, window in enumerate(expected):
            assert bool(guided[row, index]) == (window is not None)
            if window is not None:
                assert windows[row, index].tolist() == window
        assert not guided[row, len(expected) :].any()


def test_a_text_that_does_not_add_up_is_not_guided(tokenizer: Tokenizer) -> None:
    batch = make_batch(tokenizer, TEXTS, [203, 120, 60])
    batch.align_tokens[0, 1] = SIL  # one token fewer than recognition writes
    _, guided = token_windows(
        batch, evenly(batch), torch.tensor(tokenizer.aligned_counts), SUBSAMPLING, 51
    )
    assert not guided[0].any()
    assert guided[1:].any(dim=1).all()


def test_attention_in_the_window_costs_nothing_elsewhere_the_most() -> None:
    windows = torch.zeros(1, 2, 5)
    windows[0, :, 1:3] = 1.0
    guided = torch.tensor([[True, True]])
    inside = torch.tensor([0.0, 0.3, 0.7, 0.0, 0.0]).log().expand(1, 3, 5)
    outside = torch.tensor([0.5, 0.0, 0.0, 0.5, 0.0]).log().expand(1, 3, 5)
    assert guidance_loss(inside, windows, guided).item() == pytest.approx(0.0, abs=1e-6)
    expected = -torch.tensor(FLOOR).log().item()
    assert guidance_loss(outside, windows, guided).item() == pytest.approx(expected)
    half = guidance_loss(outside, windows, torch.tensor([[True, False]])).item()
    assert half == pytest.approx(expected)
    assert guidance_loss(outside, windows, ~guided).item() == 0.0


def test_padding_changes_no_window(tokenizer: Tokenizer) -> None:
    alone = make_batch(tokenizer, TEXTS[2:], [60])
    counts = torch.tensor(tokenizer.aligned_counts)
    windows, guided = token_windows(alone, evenly(alone), counts, SUBSAMPLING, 15)
    batch = make_batch(tokenizer, TEXTS, [203, 120, 60])
    padded, valid = token_windows(batch, evenly(batch), counts, SUBSAMPLING, 51)
    number = windows.shape[1]
    assert torch.equal(padded[2, :number, :15], windows[0])
    assert torch.equal(valid[2, :number], guided[0])
    assert torch.equal(F.pad(guided[0], (0, valid.shape[1] - number)), valid[2])


def test_the_keys_of_guidance_do_not_teach_the_encoder(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = SpeechTextModel(
        SpeechTextConfig(
            d_model=16, heads=2, ff_dim=32, encoder_layers=2, decoder_layers=1, front_channels=4
        ),
        vocab_size=tokenizer.vocab_size,
        n_mels=2,
        align_vocab_size=tokenizer.align_vocab_size,
    )
    monkeypatch.setattr(Dropout, "forward", lambda _, x: x)  # so that two passes do not differ
    batch = make_batch(tokenizer, TEXTS, [203, 120, 60])
    encoding = model.encode_speech(torch.randn_like(batch.features), batch.feature_lengths)

    def losses_of(tasks: TasksConfig) -> dict[str, torch.Tensor]:
        step = Step(
            model=model,
            batch=batch,
            encoding=encoding,
            tokenizer=tokenizer,
            log_mel=LogMelConfig(),
            number=1000,
            wanted=tasks.reads,
        )
        return sum_losses(tasks, step)[0]

    losses = losses_of(TasksConfig(guided_attention=GuidedAttention(weight=0.3)))
    without = losses_of(TasksConfig())
    torch.testing.assert_close(losses["loss"] - without["loss"], 0.3 * losses["loss_guidance"])
    losses["loss_guidance"].backward()
    attention = model.decoder.stack.layers[-1].cross_attention
    assert attention.query.weight.grad.any()
    assert attention.key_value.weight.grad.any()
    others = (model.alignment_head, model.encoder, model.heads["ctc"])
    assert all(one.grad is None for other in others for one in other.parameters())


def test_guidance_without_the_task_that_guides_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected align and decoder to be trained"):
        TasksConfig(align=Align(weight=0.0), guided_attention=GuidedAttention(weight=0.3))

"""What Python callers give as audio: an answer, or an error of the toolkit's own."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechmm.errors import AlignmentError, CheckpointError, SpeechmmError
from speechmm.inference.api import Model
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.bundle import Bundle

RATE = 16_000
CTC = SearchOptions(decoder="ctc")


@pytest.fixture
def model(tone_bundle: Bundle) -> Model:
    return Model(tone_bundle)


@pytest.fixture
def said(speak: Callable) -> np.ndarray:
    found: np.ndarray = speak("ab cd").waveform.numpy()
    return found


ANSWERED: list[Callable[[np.ndarray], Any]] = [
    lambda x: x,
    lambda x: x.astype(np.float64),
    lambda x: x.astype(np.float16),
    lambda x: x.astype(">f4"),
    lambda x: (x * 32767).astype(np.int16),
    lambda x: (x * (2**31 - 1)).astype(np.int32),
    lambda x: (x * 127 + 128).astype(np.uint8),
    lambda x: x.tolist(),
    lambda x: tuple(x.tolist()),
    lambda x: torch.from_numpy(x).double(),
    lambda x: torch.from_numpy(x).bfloat16(),
    lambda x: torch.from_numpy(x).requires_grad_(),
    lambda x: (torch.from_numpy(x) * 32767).short(),
    lambda x: x[None],
    lambda x: x[:, None],
    lambda x: x[None, None],
    lambda x: np.stack([x, x]),
    lambda x: np.stack([x, x], axis=1),
    lambda x: np.stack([x, x], axis=1)[:, ::-1],
    lambda x: [x.tolist(), x.tolist()],
    lambda x: np.repeat(x, 2)[::2],
]


@pytest.mark.parametrize("number", range(len(ANSWERED)))
def test_samples_of_many_kinds_are_heard(number: int, model: Model, said: np.ndarray) -> None:
    audio = ANSWERED[number](said)
    assert model.transcribe(audio, options=CTC).text == "ab cd"
    words = model.align(audio, "ab cd").words
    assert [word.label for word in words if word.label] == ["ab", "cd"]


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, np.int64(48_000), 32_000.0])
def test_another_rate_is_brought_to_the_models(rate: Any, model: Model, speak: Callable) -> None:
    from speechmm.audio.resample import resample

    heard = resample(speak("ab").waveform, from_rate=RATE, to_rate=int(rate))
    found = model.transcribe(heard.numpy(), options=CTC, sample_rate=rate)
    assert found.text == "ab"
    assert found.duration == pytest.approx(len(heard) / float(rate), abs=1e-3)


NOISE = np.random.default_rng(0).normal(0, 0.1, RATE)
REFUSED: list[Any] = [
    None, b"", b"RIFF", "", 5, 0.5, True, object(), {}, set(), [], [[]], [None], ["a"], [[1.0], [1.0, 2.0]],
    np.zeros(0), np.zeros((2, 0)), np.zeros((0, 2)), np.float32(1.0), np.array(1.0),
    np.full(RATE, np.nan), np.full(RATE, np.inf), np.where(np.arange(RATE) == 7, -np.inf, NOISE),
    NOISE * 32768, np.full(RATE, 1e300), NOISE + 0j, NOISE > 0, NOISE.astype(object),
    np.array(["a"]), (NOISE * 100).astype(np.int64), np.zeros((3, 4, RATE)), np.zeros((300, 400)),
    torch.zeros(0), torch.full((RATE,), float("nan")), torch.zeros(2, 3, 100), torch.tensor(0.1),
    torch.zeros(5, dtype=torch.complex64), torch.zeros(5, dtype=torch.bool), iter([0.1]), Path("none.wav"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_no_audio_is_refused_in_one_line(number: int, model: Model) -> None:
    for call in (
        lambda audio: model.transcribe(audio, options=CTC),
        lambda audio: model.align(audio, "ab"),
    ):
        with pytest.raises(SpeechmmError) as found:
            call(REFUSED[number])
        assert "expected" in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize(
    "rate", [0, -1, 1, 2**31 - 1, 16000.5, float("nan"), float("inf"), "16000"]
)
def test_an_absurd_rate_is_refused(rate: Any, model: Model, said: np.ndarray) -> None:
    from speechmm.inference.engine.samples import as_audio

    with pytest.raises(SpeechmmError, match="sample_rate"):
        as_audio(said, sample_rate=rate, model_rate=RATE)


def test_a_file_says_its_own_rate(model: Model) -> None:
    with pytest.raises(SpeechmmError, match="says its own rate"):
        model.transcribe("a.wav", sample_rate=RATE)


@pytest.mark.parametrize("text", [None, 5, b"ab", ["ab"], "", "  "])
def test_what_is_no_text_is_refused(text: Any, model: Model, said: np.ndarray) -> None:
    with pytest.raises(AlignmentError, match="expected"):
        model.align(said, text)


def test_an_encoder_that_says_no_number_is_refused_by_both(
    model: Model, said: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = type(model._aligner.encoder)
    encode = encoder.encode

    def broken(self: Any, waveforms: Any) -> Any:
        encoding = encode(self, waveforms)
        encoding.encoded = encoding.encoded * float("nan")
        return encoding

    monkeypatch.setattr(encoder, "encode", broken)
    with pytest.raises(CheckpointError, match="not numbers"):
        model.align(said, "ab")


@pytest.mark.parametrize("turned", [-1.0, -0.97])
def test_channels_that_cancel(model: Model, said: np.ndarray, turned: float) -> None:
    both = np.stack([said, turned * said])
    for audio in (both, both.T, torch.from_numpy(both)):
        assert model.transcribe(audio, options=CTC).text == "ab cd"


def test_rates_are_limited_as_those_of_files(model: Model, said: np.ndarray) -> None:
    with pytest.raises(SpeechmmError, match="1000 to 768000"):
        model.transcribe(said, options=CTC, sample_rate=768_001)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_uses_the_model(model: Model, said: np.ndarray) -> None:
    audio = np.concatenate([said] * 6)  # long enough for several threads
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = model.transcribe(audio, options=CTC).text
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)

        def work() -> None:
            sender.send((torch.get_num_threads(), model.transcribe(audio, options=CTC).text))

        child = context.Process(target=work)
        child.start()
        try:
            assert receiver.poll(120), "it hangs"
            assert receiver.recv() == (1, expected)
            assert torch.get_num_threads() == 2
        finally:
            child.kill()
            child.join()
    finally:
        torch.set_num_threads(threads)

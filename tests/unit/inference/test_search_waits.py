"""Nothing in a step of a search reads a number back to the host."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from speechmm.inference.recognition import beam_search
from speechmm.inference.recognition.beam_search import BeamSearch
from speechmm.inference.recognition.ended import EndedHypotheses
from speechmm.inference.recognition.fusion.hotwords import HotwordScorer
from speechmm.inference.recognition.fusion.neural_lm import LanguageModelScorer
from speechmm.inference.recognition.fusion.scorer import Scorer
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models import kv_cache
from speechmm.models.language_model import LanguageModel, LanguageModelConfig
from speechmm.models.readback import Readback
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer_training import train_tokenizer

TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=32, encoder_layers=1, decoder_layers=2, front_channels=4
)
TOKENIZER = train_tokenizer(["ab ba", "a b ab"], kind="char")
OPTIONS = [
    SearchOptions(beam=1),
    SearchOptions(beam=4, n_best=2, length_bonus=0.3),
    SearchOptions(beam=4, ctc_weight=1.0),
    SearchOptions(decoder="attention", beam=3),
]
STEPS = 25


class FakeReadback(Readback):
    """What a GPU would send later: here, that no utterance is done and 20 entries are needed."""

    def __init__(self, values: torch.Tensor) -> None:
        self.size = values.numel()

    ready = False

    def values(self) -> list[int]:
        return [20] if self.size == 1 else [0] * self.size


def scorers() -> list[Scorer]:
    torch.manual_seed(0)
    language = LanguageModelConfig(d_model=16, heads=2, ff_dim=32, layers=1)
    language_model = LanguageModel(language, vocab_size=TOKENIZER.vocab_size).eval()
    return [
        HotwordScorer(["ab ba"], TOKENIZER, 1.5),
        LanguageModelScorer(language_model, 0.3),
    ]


def network() -> SpeechTextModel:
    torch.manual_seed(0)
    return SpeechTextModel(TINY, vocab_size=TOKENIZER.vocab_size, n_mels=20).eval()


def encoding_on(device: str) -> SpeechEncoding:
    batch, frames = 3, STEPS + 5
    return SpeechEncoding(
        torch.randn(batch, frames, 16, device=device),
        torch.zeros(batch, dtype=torch.long, device=device) + frames,
        torch.randn(batch, 4 * frames, 20, device=device),
        torch.zeros(batch, dtype=torch.long, device=device) + 4 * frames,
        torch.randn(batch, frames, 16, device=device),
    )


def take_steps(running: BeamSearch, check: Callable[[], Any], steps: int = STEPS) -> None:
    """Steps as :meth:`BeamSearch.run` takes them, without its looks; the first warms up."""
    last = None
    for step in range(steps):
        beams = running.open.shape[1]
        with check():
            running.grow(last, step)
            last = running.follow(beams)


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_on_a_gpu_reads_nothing_back(
    options: SearchOptions,
    fused: bool,
    no_waits: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A made-up GPU: its tensors have no numbers, so reading one fails, as does mixing devices."""
    monkeypatch.setattr(kv_cache, "Readback", FakeReadback)
    monkeypatch.setattr("speechmm.models.transformer.attention_bias", lambda mask, like: None)
    models: Sequence[Scorer] = scorers() if fused else []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        model = fake(network())
        for one in models:
            if isinstance(one, LanguageModelScorer):
                one.model = fake(one.model)
            elif isinstance(one, HotwordScorer):
                one.next_node, one.gain = fake_tensor(one.next_node), fake_tensor(one.gain)
        running = BeamSearch(model, encoding_on("cuda"), options, models)
        take_steps(running, no_waits)
        assert running.tokens.device.type == "cuda"
        assert isinstance(running.ended, EndedHypotheses)


def fake_tensor(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


def fake(model: torch.nn.Module) -> Any:
    """The same model without numbers, on a GPU that is made up."""
    model = copy.copy(model)
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(fake_tensor(parameter), False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = fake_tensor(buffer)
    return model


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", OPTIONS, ids=repr)
def test_a_gpu_is_not_waited_for_and_finds_the_same(
    options: SearchOptions, no_waits: Callable[[], Any]
) -> None:
    model = network().cuda()
    encoding = encoding_on("cuda")
    with torch.inference_mode():
        running = BeamSearch(model, encoding, options, scorers())
        take_steps(running, no_waits)
        found = search(model, encoding, options, scorers())
        kept = {name: getattr(encoding, name) for name in encoding.__dataclass_fields__}
        here = SpeechEncoding(**{name: one.cpu() for name, one in kept.items() if one is not None})
        expected = search(model.cpu(), here, options, scorers())
    assert [[h.tokens for h in one] for one in found] == [
        [h.tokens for h in one] for one in expected
    ]


class LateReadback(Readback):
    """Numbers of a CPU that come as late as a GPU's: never before they are asked for."""

    ready = False


def drop_done_late(running: BeamSearch, step: int, beams: int) -> bool:
    running.waits_for_looks = False
    return drop_done(running, step, beams)


drop_done = BeamSearch._drop_done


@pytest.mark.parametrize("options", [*OPTIONS, SearchOptions(beam=6, n_best=6)], ids=repr)
def test_what_is_read_late_changes_no_result(
    options: SearchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    with torch.no_grad():
        model.decoder.output.bias[2] += 1.0  # ends come early, at different steps
    torch.manual_seed(1)
    lengths = torch.tensor([120, 30, 61, 9, 99])
    encoding = model.encode_speech(torch.randn(5, 120, 20), lengths)
    expected = search(model, encoding, options, scorers())
    monkeypatch.setattr(beam_search.BeamSearch, "_drop_done", drop_done_late)
    monkeypatch.setattr(kv_cache, "Readback", LateReadback)
    monkeypatch.setattr(kv_cache, "FIRST_CAPACITY", 8)
    found = search(model, encoding, options, scorers())
    for one, other in zip(found, expected, strict=True):
        assert [h.tokens for h in one] == [h.tokens for h in other]
        for mine, theirs in zip(one, other, strict=True):
            assert mine.score == pytest.approx(theirs.score, abs=1e-4)
            assert mine.token_log_probs == pytest.approx(theirs.token_log_probs, abs=1e-4)


def test_greedy_ctc_reads_its_device_once(
    no_waits: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[torch.Size] = []
    to_host = torch.Tensor.cpu

    def counted(self: torch.Tensor) -> torch.Tensor:
        copies.append(self.shape)
        return to_host(self)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    with torch.inference_mode(), no_waits():
        found = search(network(), encoding_on("cpu"), SearchOptions(decoder="ctc"))
    assert len(found) == 3 and len(copies) == 1

"""What is searched: parts with speech; silence and noise have no words, and times stay right."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechmm.inference.recognition.confidence import heard_by_ctc
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.repeats import repeated_words
from speechmm.inference.recognition.speech_gate import SpeechGate
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import Bundle, load_bundle
from speechmm.models.speech_text import SpeechEncoding
from speechmm.text.tokenizer import SIL

RATE = 16_000
CTC = SearchOptions(decoder="ctc")


def spans(bundle: Bundle, waveform: torch.Tensor) -> list[tuple[int, int]]:
    transcriber = Transcriber(bundle, options=CTC)
    encoding = transcriber.encoder.encode([waveform])
    return SpeechGate(bundle).spans(encoding, [waveform])[0]


@pytest.mark.parametrize("seconds", [0.01, 0.5, 5.0, 30.0])
def test_silence_has_no_words(tone_bundle: Bundle, seconds: float) -> None:
    found = Transcriber(tone_bundle, options=CTC).transcribe(torch.zeros(round(seconds * RATE)))
    assert (found.text, found.words, found.confidence) == ("", [], 0.0)


@pytest.mark.parametrize("decoder", ["ctc", "attention", "joint"])
@pytest.mark.parametrize("heads", [["ctc", "decoder", "align"], ["ctc", "decoder"], ["decoder"]])
def test_silence_is_not_searched_by_any_model(
    random_bundle, with_heads: Callable, decoder: str, heads: list[str]
) -> None:
    if decoder != "attention" and "ctc" not in heads:
        return
    bundle = with_heads(load_bundle(random_bundle), heads)
    options = SearchOptions(decoder=decoder)
    dither = torch.sign(torch.randn(RATE, generator=torch.Generator().manual_seed(0))) / 2**16
    for waveform in (torch.zeros(RATE), dither, torch.full((RATE,), 0.1)):
        assert Transcriber(bundle, options=options).transcribe(waveform).text == ""


def test_long_pauses_are_left_out_and_times_stay(tone_bundle: Bundle, speak: Callable) -> None:
    speech = speak("ab cd hf a", pauses=[0.4, 3.0, 1.5], lead=2.0)
    parts = spans(tone_bundle, speech.waveform)
    assert len(parts) == 3 and parts[0][0] == pytest.approx(1.7 * RATE, abs=800)
    assert sum(b - a for a, b in parts) < 0.7 * len(speech.waveform)
    for gate in (True, False):
        found = Transcriber(tone_bundle, options=replace(CTC, speech_gate=gate)).transcribe(
            speech.waveform
        )
        assert found.text == speech.text
        for word, expected in zip(found.words, speech.words, strict=True):
            assert word.start == pytest.approx(expected.start, abs=0.03)
            assert word.end == pytest.approx(expected.end, abs=0.03)


def test_without_ctc_only_what_is_around_speech_is_left_out(
    tone_bundle: Bundle, with_heads: Callable, speak: Callable
) -> None:
    """A decoder that is given a part of an utterance may not find its end."""
    speech = speak("ab cd hf a", pauses=[0.4, 3.0, 1.5], lead=2.0)
    parts = spans(tone_bundle, speech.waveform)
    encoding = Transcriber(tone_bundle, options=CTC).encoder.encode([speech.waveform])
    gate = SpeechGate(with_heads(tone_bundle, ["align"]))
    (found,) = gate.spans(encoding, [speech.waveform])[0]
    assert found == pytest.approx((parts[0][0], parts[-1][1]), abs=0.06 * RATE)  # by the level


def test_a_head_that_has_learned_little_loses_no_words_without_ctc(
    tone_bundle: Bundle, with_heads: Callable, speak: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes all but a tenth of a second for silence, as some did of spelled names."""
    waveform = speak("ab cd hf a", pauses=[0.4, 0.4, 0.4], lead=1.5).waveform
    encoding = Transcriber(tone_bundle, options=CTC).encoder.encode([waveform])
    bundle = with_heads(tone_bundle, ["align"])
    gate = SpeechGate(bundle)
    first, last = gate.spans(encoding, [waveform])[0][0]
    assert first > 0
    mistaken = bundle.model.align_log_probs(encoding).clone()
    mistaken[:, :, SIL], mistaken[:, 170:180, SIL] = 0.0, -0.2
    monkeypatch.setattr(bundle.model, "align_log_probs", lambda _: mistaken)
    assert gate.spans(encoding, [waveform]) == [[(first, last)]]
    mistaken[:, :, SIL] = 0.0
    assert gate.spans(encoding, [waveform]) == [[]]


def test_short_pauses_leave_the_audio_whole(tone_bundle: Bundle, speak: Callable) -> None:
    waveform = speak("ab cd hf a", pauses=[0.4, 0.9, 0.3], lead=0.8).waveform
    assert spans(tone_bundle, waveform) == [(0, len(waveform))]


def test_soft_speech_beside_loud_speech_is_searched(tone_bundle: Bundle, speak: Callable) -> None:
    loud, soft = speak("ab cd"), speak("hf a", lead=2.0)
    parts = spans(tone_bundle, torch.cat([loud.waveform, 0.3 * soft.waveform]))
    assert len(parts) == 2


def test_words_that_ctc_does_not_hear_are_doubted(tone_bundle: Bundle, speak: Callable) -> None:
    waveform = speak("ab cd").waveform
    encoding = Transcriber(tone_bundle, options=CTC).encoder.encode([waveform])
    encode = tone_bundle.tokenizer.encode
    right, wrong = (
        Hypothesis(tokens, 0.0, [-0.1] * len(tokens))
        for tokens in (encode("ab cd"), encode("fe gh"))
    )
    kept, doubted = (heard_by_ctc(tone_bundle, encoding, [one])[0] for one in (right, wrong))
    assert np.exp(np.mean(kept)) == pytest.approx(np.exp(-0.1), abs=0.02)
    assert np.exp(np.mean(doubted)) < 0.2


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("", ()),
        ("no no no", ()),
        ("one one one one", ()),
        ("a b c d e f a b c d e", ()),
        ("go go go go go go", ("repeated: go (6 times)",)),
        ("x a b c a b c a b c y", ("repeated: a b c (3 times)",)),
        ("a b c d e f a b c d e f", ("repeated: a b c d e f (2 times)",)),
        ("a a a a a b c b c b c b c b c", ("repeated: a (5 times)", "repeated: b c (5 times)")),
        ("谢谢观看" * 7, ("repeated: 谢谢观看 (7 times)",)),
        ("谢谢观看" * 4, ()),
        ("我们今天去图书馆看书吗" * 2, ()),
        ("我们今天去图书馆看书好吗" * 2, ("repeated: 我们今天去图书馆看书好吗 (2 times)",)),
        ("好的好的 谢谢 go go go go go", ("repeated: go (5 times)",)),
        ("你好 " * 5, ("repeated: 你好 (5 times)",)),
    ],
)
def test_loops_are_flagged(text: str, flags: tuple[str, ...]) -> None:
    assert repeated_words(text.split()) == flags


def test_loops_stand_in_the_row(tone_bundle: Bundle, speak: Callable) -> None:
    found = Transcriber(tone_bundle, options=CTC).transcribe(speak("ab cd ef " * 3).waveform)
    assert found.to_dict()["flags"] == ["repeated: ab cd ef (3 times)"]


def test_the_alignment_head_runs_once_a_batch(tone_bundle: Bundle, speak: Callable) -> None:
    transcriber, runs = Transcriber(tone_bundle, options=CTC), []
    model = transcriber.encoder.model
    compute = model.align_log_probs

    def counted(encoding: SpeechEncoding) -> torch.Tensor:
        if encoding.aligned is None:
            runs.append(encoding)
            return compute(encoding)
        return encoding.aligned

    model.align_log_probs = counted
    try:
        found = transcriber.transcribe(speak("ab cd").waveform)
    finally:
        del model.align_log_probs
    assert (found.text, len(runs)) == ("ab cd", 1)
    assert all(word.end > word.start for word in found.words)

"""What a model of phones has recognised: timed and ranked by its phones, and pronounced no second time."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from speechmm.errors import ConfigError
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.alignment.word_times import time_words
from speechmm.inference.recognition.alignment_scores import rescore
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.pseudo_labels import Agreement, PseudoLabeller
from speechmm.inference.recognition.transcriber import Transcriber, words_of
from speechmm.models.bundle import Bundle
from speechmm.text import tokenizer as tokenizer_module
from speechmm.text.recognised_text import align_recognised
from speechmm.text.tokenizer import BOS, SIL, SPACE, UNK, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer

PHONES = dict(zip("abcdefgh", ["oʊ", "tʃ", "ə", "iː", "ʃ", "aɪ", "dʒ", "ɛ"], strict=True))
CTC = SearchOptions(decoder="ctc", speech_gate=False)


@pytest.fixture
def phone_bundle(tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle of tones, whose letters are phones; nothing may be pronounced."""

    def refuse(word: str, language: str) -> list[str]:
        raise AssertionError(f"{word!r} is pronounced")

    monkeypatch.setattr(tokenizer_module, "phones_of", refuse)
    own = tone_bundle.tokenizer
    pieces = [PHONES.get(piece, piece) for piece in own.pieces]
    tokenizer = Tokenizer(kind="phone", normalizer="multilingual", language="en-us", pieces=pieces)
    return replace(tone_bundle, tokenizer=tokenizer)


def written(bundle: Bundle, text: str) -> list[int]:
    """The ids of a text of the language of tones."""
    names = (SPACE if letter == " " else PHONES[letter] for letter in text)
    return [bundle.tokenizer.pieces.index(name) for name in names]


def test_phones_are_aligned_as_they_are(phone_bundle: Bundle) -> None:
    a, b, c = written(phone_bundle, "abc")
    (space,) = written(phone_bundle, " ")
    found = align_recognised(phone_bundle.tokenizer, [space, a, b, space, space, BOS, c, UNK])
    assert found.words == ["oʊtʃ", "ə⁇"]
    assert found.ids == [SIL, a, b, SIL, c, UNK, SIL]
    assert found.word_indices == [-1, 0, 0, -1, 1, 1, -1]
    assert align_recognised(phone_bundle.tokenizer, []).ids == [SIL]


@pytest.mark.parametrize("kind", ["char", "bpe", "unigram"])
def test_letters_are_aligned_as_the_text_they_make(kind: str) -> None:
    tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog"], kind=kind)
    ids = [*tokenizer.encode("the lazy fox"), UNK]
    assert align_recognised(tokenizer, ids) == tokenizer.encode_aligned(tokenizer.decode(ids))


@pytest.mark.parametrize("heads", [("ctc", "align"), ("ctc",), ("align",)])
def test_recognised_phones_are_timed_where_they_are_said(
    phone_bundle: Bundle, with_heads: Callable, speak: Callable, heads: tuple[str, ...]
) -> None:
    bundle = with_heads(phone_bundle, heads)
    said = [speak("ab cdd a hf", pauses=[0.5, 0.1, 0.3]), speak("ef", lead=1.0)]
    encoding = Transcriber(phone_bundle, options=CTC).encoder.encode([one.waveform for one in said])
    ids = [written(bundle, one.text) for one in said]
    words = [words_of(bundle.tokenizer, Hypothesis(one, 0.0, [-0.1] * len(one))) for one in ids]
    seconds = [len(one.waveform) / 16_000 for one in said]
    found = time_words(bundle, encoding=encoding, words=words, ids=ids, seconds=seconds)
    assert [one.label for one in found[0]] == ["oʊtʃ", "əiːiː", "oʊ", "ɛaɪ"]
    within = 0.011 if "align" in heads else 0.041
    for row, one in zip(found, said, strict=True):
        for word, expected in zip(row, one.words, strict=True):
            assert word.start == pytest.approx(expected.start, abs=within)
            assert word.end == pytest.approx(expected.end, abs=within)


def test_a_transcript_of_phones_has_the_times_of_its_words(
    phone_bundle: Bundle, speak: Callable
) -> None:
    speech = speak("ab cd a hf", pauses=[0.5, 0.1, 0.3])
    found = Transcriber(phone_bundle, options=CTC).transcribe(speech.waveform)
    assert found.text == "oʊtʃ əiː oʊ ɛaɪ"
    starts, expected = ([one.start for one in row] for row in (found.words, speech.words))
    assert starts == pytest.approx(expected, abs=0.011)


def test_hypotheses_of_phones_are_ranked_by_their_phones(
    phone_bundle: Bundle, speak: Callable
) -> None:
    encoding = Transcriber(phone_bundle, options=CTC).encoder.encode([speak("ab cd").waveform])
    texts = ["fe gh", "ab gd", "ab cd", "a cd"]
    given = [Hypothesis(written(phone_bundle, text), -float(n)) for n, text in enumerate(texts)]
    model, tokenizer = phone_bundle.model, phone_bundle.tokenizer
    ((best, *_),) = rescore(model, tokenizer, encoding, [given], 1.0)
    assert best.tokens == given[2].tokens


def test_phones_are_no_texts_to_train_on(phone_bundle: Bundle) -> None:
    parts = Transcriber(phone_bundle, options=CTC), Aligner(phone_bundle)
    with pytest.raises(
        ConfigError, match=r"tones: it writes phones, .* expected a model that writes"
    ):
        PseudoLabeller(phone_bundle, *parts, Agreement())


def test_batches_of_nothing_recognised(phone_bundle: Bundle) -> None:
    found = Transcriber(phone_bundle, options=CTC).transcribe(torch.zeros(16_000))
    assert (found.text, found.words) == ("", [])

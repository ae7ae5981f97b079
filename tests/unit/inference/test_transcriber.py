"""Transcripts: nothing lost at seams, input order kept, bad inputs named, times and confidences."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from speechmm.audio.io import read_audio
from speechmm.data.skips import SkipReport
from speechmm.errors import AudioError, ConfigError
from speechmm.inference.engine.sources import Source, find_sources
from speechmm.inference.recognition.confidence import Calibration, mean_probability
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.transcriber import Transcriber, cut_blocks, words_of
from speechmm.models.bundle import Bundle
from speechmm.models.bundle_config import ConfidenceInfo
from speechmm.models.speech_text import HEADS
from speechmm.text.tokenizer import UNK, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer

CTC = SearchOptions(decoder="ctc")
RATE = 16_000


def random_text(words: int, seed: int = 0) -> str:
    """Words of one to four letters, no letter twice in a row: CTC hears every one."""
    source = random.Random(seed)
    result = []
    for _ in range(words):
        word = ""
        while len(word) < source.randint(1, 4):
            word += source.choice([letter for letter in "abcdefgh" if not word.endswith(letter)])
        result.append(word)
    return " ".join(result)


@pytest.fixture
def transcriber(tone_bundle: Bundle) -> Transcriber:
    return Transcriber(tone_bundle, options=CTC)


def test_words_and_their_times(transcriber: Transcriber, speak: Callable, tmp_path: Path) -> None:
    speech = speak("ab cd a hf", pauses=[0.3, 0.15, 0.6])
    found = transcriber.transcribe(speech.save(tmp_path / "one two.wav"))
    assert (found.id, found.text) == ("one two", speech.text)
    assert 0.5 < found.confidence <= 1.0
    for word, expected in zip(found.words, speech.words, strict=True):
        assert word.label == expected.label
        assert word.start == pytest.approx(expected.start, abs=0.02)
        assert word.end == pytest.approx(expected.end, abs=0.02)
        assert 0.5 < word.confidence <= 1.0
    row = found.to_dict()
    assert list(row) == ["id", "audio", "start", "duration", "text", "confidence", "words"]
    assert list(row["words"][0]) == ["word", "start", "end", "confidence"]
    assert row["duration"] == pytest.approx(len(speech.waveform) / RATE, abs=1e-4)


def test_long_audio_loses_and_doubles_no_word(
    transcriber: Transcriber, speak: Callable, tmp_path: Path
) -> None:
    speech = speak(random_text(400), pauses=[0.3, 0.25, 0.5, 3.0])
    assert len(speech.waveform) > 300 * RATE
    found = transcriber.transcribe(speech.save(tmp_path / "long.wav", "PCM_16"))
    assert found.text == speech.text
    for word, expected in zip(found.words, speech.words, strict=True):
        assert word.start == pytest.approx(expected.start, abs=0.02)
        assert word.end == pytest.approx(expected.end, abs=0.02)


def test_long_audio_is_not_held_in_memory(
    transcriber: Transcriber, speak: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of an hour is cut as it comes: never more than two chunks and a block are held."""
    block = speak(random_text(40), pauses=[0.3]).waveform
    given = taken = most = 0

    def blocks():
        nonlocal given
        for _ in range(60):
            given += len(block)
            yield block

    for first, chunk in cut_blocks(blocks(), RATE):
        assert first == taken
        taken += len(chunk)
        most = max(most, given - taken)
    assert taken == given
    assert most <= 40 * RATE + 2 * len(block)


def test_results_keep_the_order_of_the_inputs(
    tone_bundle: Bundle, speak: Callable, tmp_path: Path
) -> None:
    texts = [random_text(1 + (7 * index) % 12, seed=index) for index in range(30)]
    paths = [speak(text).save(tmp_path / f"{i:02d}.wav") for i, text in enumerate(texts)]
    for batch_seconds in (1.0, 10.0, 1000.0):
        transcriber = Transcriber(
            tone_bundle, options=CTC, batch_seconds=batch_seconds, word_times=False
        )
        found = list(transcriber.transcribe_files(paths))
        assert [row.text for row in found] == texts
        assert all(row.words == [] for row in found)


def test_bad_inputs_are_named_and_the_rest_is_transcribed(
    transcriber: Transcriber, speak: Callable, tmp_path: Path
) -> None:
    good = [speak("ab").save(tmp_path / "a.wav"), speak("cd").save(tmp_path / "c.wav")]
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("not audio at all, but long enough to look at")
    whole = speak(random_text(300)).save(tmp_path / "cut.flac", "PCM_16").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    inputs = [
        good[0],
        tmp_path / "empty.wav",
        tmp_path / "cut.flac",
        tmp_path / "text.wav",
        tmp_path / "missing.wav",
        good[1],
    ]
    skipped = SkipReport()
    found = list(transcriber.transcribe_files(inputs, skipped=skipped))
    assert [row.text for row in found] == ["ab", "cd"]
    assert [Path(item).name for item, _ in skipped.items] == [
        "empty.wav",
        "cut.flac",
        "text.wav",
        "missing.wav",
    ]
    with pytest.raises(AudioError, match=r"empty\.wav"):
        list(transcriber.transcribe_files(inputs))


@pytest.mark.parametrize("samples", [1, 320, 1600])
@pytest.mark.parametrize("decoder", ["ctc", "attention", "joint"])
def test_very_short_and_silent_audio(random_bundle: Path, samples: int, decoder: str) -> None:
    from speechmm.models.bundle import load_bundle

    transcriber = Transcriber(load_bundle(random_bundle), options=SearchOptions(decoder=decoder))
    found = transcriber.transcribe(torch.zeros(samples))
    assert 0.0 <= found.confidence <= 1.0
    assert found.text.split() == [word.label for word in found.words]
    assert all(0.0 <= word.start <= word.end <= found.duration for word in found.words)


def test_silence_has_no_words_and_no_confidence(transcriber: Transcriber) -> None:
    found = transcriber.transcribe(torch.zeros(3 * RATE))
    assert (found.text, found.words, found.confidence) == ("", [], 0.0)


def test_empty_audio_in_memory_is_an_error(transcriber: Transcriber) -> None:
    with pytest.raises(AudioError, match="no samples"):
        transcriber.transcribe(torch.zeros(0))


def test_ids_are_stems_made_unique(tmp_path: Path, speak: Callable) -> None:
    for name in ("x/one.wav", "y/one.wav", "y/two.wav"):
        speak("a").save(tmp_path / name)
    skipped = SkipReport()
    found = find_sources([tmp_path], skipped)
    assert [source.id for source in found] == ["x/one", "y/one", "two"]
    again = find_sources([tmp_path / "x/one.wav", tmp_path / "y/one.wav"], skipped)
    assert [source.id for source in again] == ["one", "one-2"]
    (tmp_path / "nothing").mkdir()
    assert find_sources([tmp_path / "nothing"], skipped) == []
    assert "no audio files" in skipped.items[0][1]


def test_cuts_keep_ids_and_times_of_the_file(
    transcriber: Transcriber, speak: Callable, tmp_path: Path
) -> None:
    from speechmm.data.manifest import make_cut, write_cuts

    speech = speak("ab cd ef", pauses=[1.0])
    audio = speech.save(tmp_path / "all.wav")
    start = speech.words[1].start - 0.3
    cuts = [
        make_cut(id="second", audio=audio, text="cd", start=start, duration=1.0),
        make_cut(id="all/of it", audio=audio, text=speech.text),
    ]
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    sources = find_sources([tmp_path / "cuts.jsonl.gz"], SkipReport())
    second, whole = transcriber.transcribe_sources(sources)
    assert (second.id, second.text, second.start) == ("second", "cd", pytest.approx(start))
    assert second.words[0].start == pytest.approx(speech.words[1].start, abs=0.02)
    assert (whole.id, whole.text, whole.start) == ("all/of it", speech.text, 0.0)


def test_words_of_pieces_are_what_the_tokenizer_decodes() -> None:
    texts = ["the quick brown fox jumps over the lazy dog", "quick foxes"]
    for kind in ("char", "bpe", "unigram"):
        tokenizer = train_tokenizer(texts, kind=kind)
        tokens = [*tokenizer.encode(texts[0]), UNK]
        hypothesis = Hypothesis(tokens, 0.0, [-0.1] * len(tokens))
        words = words_of(tokenizer, hypothesis)
        assert " ".join(word.label for word in words) == tokenizer.decode(tokens)
        assert all(word.confidence == pytest.approx(0.9048, abs=1e-3) for word in words)


def test_mean_probability() -> None:
    assert mean_probability([]) == 0.0
    assert mean_probability([0.1]) == 1.0  # rounding may leave a probability a hair above one
    assert mean_probability([-1.0, -3.0]) == pytest.approx(0.1353, abs=1e-4)


def test_audio_in_memory_and_in_a_file_give_the_same(
    transcriber: Transcriber, speak: Callable, tmp_path: Path
) -> None:
    path = speak("abc fg").save(tmp_path / "a.wav")
    waveform = read_audio(path, sample_rate=RATE)
    assert transcriber.transcribe(waveform).words == transcriber.transcribe(path).words


def test_a_source_without_a_file_is_called_by_its_id(tokenizer: Tokenizer) -> None:
    assert Source(id="x", waveform=torch.zeros(1)).name == "x"
    assert Source(id="x", audio="y/x.wav").name == "y/x.wav"


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [
        (8_000, 1, "PCM_U8"),
        (11_025, 1, "PCM_16"),
        (16_000, 6, "PCM_24"),
        (44_100, 2, "FLOAT"),
        (48_000, 1, "DOUBLE"),
    ],
)
def test_any_rate_channels_and_sample_format(
    transcriber: Transcriber,
    speak: Callable,
    tmp_path: Path,
    *,
    rate: int,
    channels: int,
    subtype: str,
) -> None:
    import soundfile
    import torchaudio

    speech = speak("ab cd ea")
    waveform = torchaudio.functional.resample(speech.waveform, RATE, rate).clamp(-1, 1)
    path = tmp_path / "odd.wav"
    soundfile.write(path, waveform[:, None].expand(-1, channels).numpy(), rate, subtype=subtype)
    found = transcriber.transcribe(path)
    assert found.text == speech.text
    assert found.duration == pytest.approx(len(speech.waveform) / RATE, abs=1e-3)
    for word, expected in zip(found.words, speech.words, strict=True):
        assert word.start == pytest.approx(expected.start, abs=0.02)


def test_samples_that_are_not_numbers(transcriber: Transcriber, tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "nan.wav"
    soundfile.write(path, torch.full((1600,), float("nan")).numpy(), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="finite"):
        transcriber.transcribe(path)


def test_calibrated_confidences(tone_bundle: Bundle, speak: Callable) -> None:
    speech = speak("ab cd").waveform
    options = SearchOptions(decoder="ctc")
    plain = Transcriber(tone_bundle, options=options).transcribe(speech)
    calibrations = {"ctc": ConfidenceInfo(scale=0.5, bias=-1.0)}
    bundle = replace(tone_bundle, confidence=calibrations)
    found = Transcriber(bundle, options=options).transcribe(speech)
    assert found.text == plain.text
    for word, before in zip(found.words, plain.words, strict=True):
        odds = 0.5 * math.log(before.confidence / (1 - before.confidence)) - 1.0
        assert word.confidence == pytest.approx(1 / (1 + math.exp(-odds)))
    assert min(w.confidence for w in found.words) <= found.confidence < plain.confidence
    other = Transcriber(bundle, options=SearchOptions(decoder="attention"))
    assert other.calibration == Calibration()


def test_word_times_of_a_model_that_was_not_taught_to_align(
    tone_bundle: Bundle, speak: Callable, with_heads: Callable
) -> None:
    speech = speak("ab cd a hf", pauses=[0.3, 0.15, 0.6])
    bundle = with_heads(tone_bundle, ["ctc"])
    found = Transcriber(bundle, options=CTC).transcribe(speech.waveform)
    for word, expected in zip(found.words, speech.words, strict=True):
        assert word.label == expected.label
        assert word.start == pytest.approx(expected.start, abs=0.04)  # an encoder frame
        assert word.end == pytest.approx(expected.end, abs=0.04)
    assert Transcriber(bundle, options=CTC).transcribe(torch.zeros(RATE)).words == []


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (SearchOptions(decoder="joint"), {"ctc", "decoder"}),
        (SearchOptions(ctc_weight=0.0), {"decoder"}),
        (SearchOptions(decoder="attention"), {"decoder"}),
        (CTC, {"ctc"}),
    ],
)
def test_what_was_not_trained_is_not_read(
    tone_bundle: Bundle, options: SearchOptions, missing: set[str], with_heads: Callable
) -> None:
    Transcriber(with_heads(tone_bundle, missing), options=options)
    for head in missing:
        bad = with_heads(tone_bundle, [one for one in HEADS if one != head])
        with pytest.raises(ConfigError, match=f"expected {head} too, which --decoder"):
            Transcriber(bad, options=options)

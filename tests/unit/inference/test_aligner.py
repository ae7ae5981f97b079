"""Alignments: exact on tones, long audio without drift, words kept as written, misfits flagged."""

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from speechmm.alignments import Alignment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.skips import SkipReport
from speechmm.errors import AlignmentError, ConfigError, ManifestError
from speechmm.inference.alignment import long_audio
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.alignment.ctc_labels import align_labels, ctc_labels
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.soft_alignment import SoftAlignment
from speechmm.inference.alignment.token_path import find_paths, word_segments
from speechmm.inference.alignment.units import check_units
from speechmm.inference.engine.sample_window import SampleWindow
from speechmm.inference.engine.sources import Source, find_sources
from speechmm.models.bundle import Bundle, load_bundle, save_bundle
from speechmm.models.speech_text import HEADS, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import SIL
from speechmm.text.tokenizer_training import train_tokenizer

RATE = 16_000
TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=32, encoder_layers=2, decoder_layers=1, front_channels=4
)


def random_text(words: int, seed: int = 0) -> str:
    source = random.Random(seed)
    result: list[str] = []
    for _ in range(words):
        word = ""
        for _ in range(source.randint(1, 4)):
            word += source.choice([letter for letter in "abcdefgh" if not word.endswith(letter)])
        result.append(word)
    return " ".join(result)


@pytest.fixture
def aligner(tone_bundle: Bundle) -> Aligner:
    return Aligner(tone_bundle)


def test_words_and_characters(aligner: Aligner, speak: Callable, tmp_path: Path) -> None:
    speech = speak("ab cd a hf", pauses=[0.3, 0.1, 0.6])
    found = aligner.align(speech.save(tmp_path / "one.wav"), "Ab CD, a hf!")
    assert (found.id, found.flags) == ("one", ())
    assert [word.label for word in found.words] == ["Ab", "CD,", "a", "hf!"]
    assert "".join(segment.label for segment in found.units["char"]) == "abcdahf"
    for word, expected in zip(found.words, speech.words, strict=True):
        assert word.start == pytest.approx(expected.start, abs=0.011)
        assert word.end == pytest.approx(expected.end, abs=0.011)
        assert 0.5 < word.confidence <= 1.0
    for before, after in zip(found.units["char"], found.units["char"][1:], strict=False):
        assert 0.0 <= before.start < before.end <= after.start < after.end <= found.duration
    assert found.duration == pytest.approx(len(speech.waveform) / RATE)


def test_words_without_a_pause_touch(aligner: Aligner, speak: Callable) -> None:
    speech = speak("ab cd", pauses=[0.0], lead=0.0)
    first, second = aligner.align(speech.waveform, "ab cd").words
    assert first.start == 0.0
    assert first.end == second.start == pytest.approx(0.4, abs=0.011)
    assert second.end == pytest.approx(0.8)


def test_words_that_are_not_spoken_are_empty(aligner: Aligner, speak: Callable) -> None:
    waveform = speak("ab cd").waveform
    found = aligner.align(waveform, "- ab — cd ...")
    assert [word.label for word in found.words] == ["-", "ab", "—", "cd", "..."]
    empty = [word for word in found.words if word.start == word.end]
    assert [word.label for word in empty] == ["-", "—", "..."]
    assert found.words[0].start == 0.0
    assert found.words[2].start == found.words[1].end
    assert found.flags == ()  # punctuation is not read aloud
    assert aligner.align(waveform, "ab % cd").flags == ("unspoken: %",)


def test_unknown_characters_are_flagged_by_name(aligner: Aligner, speak: Callable) -> None:
    found = aligner.align(speak("ab cd").waveform, "ab xcdß")
    assert "unknown_characters: x ß" in found.flags


def test_wrong_text_is_flagged(aligner: Aligner, speak: Callable) -> None:
    found = aligner.align(speak("ab cd fe").waveform, "hg gh hg")
    assert "low_confidence" in found.flags
    assert found.confidence < 0.2


def test_text_that_cannot_be_said_that_fast(aligner: Aligner, speak: Callable) -> None:
    found = aligner.align(speak("ab", lead=0.1, pauses=[0.1]).waveform, "ab " * 15)
    assert "shorter_than_text" in found.flags
    with pytest.raises(AlignmentError, match="longer than the audio allows: 1000 tokens"):
        aligner.align(speak("ab").waveform, "ab " * 500)


@pytest.mark.parametrize("text", ["", "  \n", "-- ..."])
def test_empty_text(aligner: Aligner, speak: Callable, text: str) -> None:
    with pytest.raises(AlignmentError, match="text"):
        aligner.align(speak("ab").waveform, text)


@pytest.fixture(params=[HEADS, ("decoder", "align")], ids=["with_ctc", "without_ctc"])
def any_aligner(
    request: pytest.FixtureRequest, tone_bundle: Bundle, with_heads: Callable
) -> Aligner:
    """Of models of several kinds."""
    return Aligner(with_heads(tone_bundle, request.param))


@pytest.mark.parametrize("pauses", [[0.3], [0.15, 0.4, 12.0], [0.05, 45.0, 0.3, 0.3, 0.3]])
def test_long_audio_is_as_exact_at_the_end_as_at_the_start(
    any_aligner: Aligner, speak: Callable, tmp_path: Path, pauses: list[float]
) -> None:
    text = random_text(150)
    speech = speak(text, pauses=pauses)
    assert len(speech.waveform) > 80 * RATE
    found = any_aligner.align(speech.save(tmp_path / "long.wav"), text.replace(" ", " - "))
    assert found.flags == ()
    spoken = [word for word in found.words if word.label != "-"]
    assert len(found.words) == 2 * len(spoken) - 1
    for word, expected in zip(spoken, speech.words, strict=True):
        assert word.label == expected.label
        assert word.start == pytest.approx(expected.start, abs=0.011)
        assert word.end == pytest.approx(expected.end, abs=0.011)
    edges = [time for word in found.words for time in (word.start, word.end)]
    assert edges == sorted(edges)


def test_long_audio_with_too_much_text(aligner: Aligner, speak: Callable) -> None:
    waveform = speak(random_text(60), pauses=[0.3]).waveform
    assert len(waveform) > 31 * RATE
    with pytest.raises(AlignmentError, match="longer than the audio allows"):
        aligner.align(waveform, random_text(600))


def test_long_audio_without_ctc_holds_a_token_a_frame(
    tone_bundle: Bundle, with_heads: Callable, speak: Callable
) -> None:
    """Where CTC has one label every 40 ms, and coarse frames of the head would be too few."""
    aligner = Aligner(with_heads(tone_bundle, ["align"]))
    waveform = speak(random_text(60), pauses=[0.3]).waveform
    text = random_text(1200)
    assert len(text.replace(" ", "")) > 0.5 * 100 * len(waveform) / RATE
    assert [word.label for word in aligner.align(waveform, text).words] == text.split()
    with pytest.raises(AlignmentError, match="longer than the audio allows"):
        aligner.align(waveform, random_text(2500))


def test_long_audio_with_a_wrong_text_never_crashes(any_aligner: Aligner, speak: Callable) -> None:
    waveform = speak(random_text(100, seed=1), pauses=[0.3]).waveform
    found = any_aligner.align(waveform, random_text(60, seed=2))
    assert "low_confidence" in found.flags
    assert len(found.words) == 60
    edges = [time for word in found.words for time in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 0.0 and edges[-1] <= found.duration


def test_blocks_give_the_frames_of_the_whole(tone_bundle: Bundle, speak: Callable) -> None:
    aligner = Aligner(tone_bundle)
    model = aligner.encoder.model
    waveform = speak(random_text(130), pauses=[0.3]).waveform
    encoding = aligner.encoder.encode([waveform])
    head = model.align_log_probs(encoding)[0]
    odd = len(head) // 3 * 3  # the last of three frames each is the mean of fewer
    threes = [head[:odd].reshape(-1, 3, head.shape[1]).mean(1), head[odd:].mean(0, keepdim=True)]
    ids = np.array([SIL, 5, 7])
    for scorer, whole in [
        (long_audio.ctc_scorer(model), model.ctc_log_probs(encoding)[0]),
        (long_audio.head_scorer(model, ids, 1), head[:, ids]),
        (long_audio.head_scorer(model, ids, 3), torch.cat(threes)[:, ids]),
    ]:
        for pieces in (1, 7, 1000):
            window = SampleWindow(waveform.tensor_split(pieces))
            parts, samples = long_audio.block_log_probs(
                aligner.encoder, scorer, tone_bundle.features, window
            )
            assert samples == len(waveform)
            np.testing.assert_allclose(parts, whole.numpy(), atol=1e-5)


@pytest.mark.parametrize("heads", [HEADS, ("align",)])
def test_segments_cover_every_word_once(
    random_bundle: Path, with_heads: Callable, heads: Sequence[str]
) -> None:
    """Whatever CTC says: a model that has learnt nothing gives nonsense, but no word is lost."""
    bundle = with_heads(load_bundle(random_bundle), heads)
    aligner = Aligner(bundle)
    text = " - " + random_text(120) + " ?"
    aligned = bundle.tokenizer.encode_aligned(text)
    waveform = torch.randn(100 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    found = list(
        long_audio.segment_audio(
            aligner.encoder,
            bundle.tokenizer,
            bundle.features,
            lambda: waveform.split(5000),
            aligned,
            name="noise",
            expected_samples=len(waveform),
        )
    )
    assert len(found) > 2
    assert [word for segment in found for word in segment.aligned.words] == text.split()
    assert found[0].first_sample >= 0 and found[-1].last_sample <= len(waveform)
    for before, after in itertools.pairwise(found):
        assert before.first_sample < before.last_sample <= after.first_sample
    assert len(aligner.align(waveform, text).words) == 122


def test_order_and_batches_change_nothing(random_bundle: Path, speak: Callable) -> None:
    bundle = load_bundle(random_bundle)
    texts = [random_text(1 + index % 7, seed=index) for index in range(12)]
    sources = [
        Source(id=str(index), waveform=speak(text).waveform, text=text)
        for index, text in enumerate(texts)
    ]
    alone = [next(Aligner(bundle).align_sources([source])) for source in sources]
    for batch_seconds in (3.0, 1000.0):
        together = list(Aligner(bundle, batch_seconds=batch_seconds).align_sources(sources))
        assert [row.id for row in together] == [row.id for row in alone]
        for found, expected in zip(together, alone, strict=True):
            assert found.confidence == pytest.approx(expected.confidence, abs=1e-4)
            for word, other in zip(found.words, expected.words, strict=True):
                # To a thousandth of a frame: the CTC of random weights has earned no trust, so nothing
                # limits the sums over paths, and other batches round otherwise.
                assert word.start == pytest.approx(other.start, abs=1e-5)
                assert word.end == pytest.approx(other.end, abs=1e-5)


def test_text_comes_from_beside_the_audio(
    aligner: Aligner, speak: Callable, tmp_path: Path
) -> None:
    for name in ("a.wav", "b.flac", "c.wav", "d.wav"):
        speak("ab cd").save(tmp_path / name, "PCM_16")
    (tmp_path / "a.txt").write_text("ab cd\n")
    (tmp_path / "b.lab").write_bytes(b"\xef\xbb\xbfAb cd")
    (tmp_path / "d.txt").write_bytes(b"ab c\xe4d")
    skipped = SkipReport()
    found = list(aligner.align_sources(find_sources([tmp_path], skipped), skipped=skipped))
    assert [[word.label for word in row.words] for row in found] == [["ab", "cd"], ["Ab", "cd"]]
    assert [Path(item).name for item, _ in skipped.items] == ["c.wav", "d.wav"]
    assert "there is no text" in skipped.items[0][1]
    assert "not UTF-8" in skipped.items[1][1]
    with pytest.raises(ManifestError, match="not UTF-8"):
        list(aligner.align_sources(find_sources([tmp_path / "d.wav"], SkipReport(strict=True))))


def test_units(tone_bundle: Bundle, speak: Callable) -> None:
    assert check_units(None, "char") == ("word", "char")
    assert check_units(["char", "word"], "bpe") == ("char", "word")
    with pytest.raises(ConfigError, match="'phone'; expected some of word, char"):
        Aligner(tone_bundle, units=["word", "phone"])
    found = Aligner(tone_bundle, units=["word"]).align(speak("ab").waveform, "ab")
    assert list(found.units) == ["word"]


@pytest.mark.parametrize("seconds", [3.0, 70.0], ids=["short", "long"])
def test_characters_of_a_bpe_model(seconds: float, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["singing and ringing"] * 9, kind="bpe", vocab_size=22)
    torch.manual_seed(0)
    features = LogMelConfig()
    model = SpeechTextModel(
        TINY,
        vocab_size=tokenizer.vocab_size,
        n_mels=features.n_mels,
        align_vocab_size=tokenizer.align_vocab_size,
    )
    save_bundle(tmp_path / "bundle", model, tokenizer, features)
    aligner = Aligner(load_bundle(tmp_path / "bundle"), units=["word", "char"])
    found = aligner.align(torch.randn(round(seconds * RATE)), "ring-ring, and sing")
    assert [word.label for word in found.units["word"]] == ["ring-ring,", "and", "sing"]
    assert "".join(char.label for char in found.units["char"]) == "ringringandsing"
    edges = [time for char in found.units["char"] for time in (char.start, char.end)]
    assert edges == sorted(edges)


def test_characters_that_ctc_writes_as_one_share_its_frames() -> None:
    tokenizer = train_tokenizer(["singing and ringing"] * 9, kind="bpe", vocab_size=22)
    aligned = tokenizer.encode_aligned("ringsing and")
    labels = ctc_labels(tokenizer, aligned)
    assert [tokenizer.pieces[token] for token in labels.ids] == ["▁r", "ing", "s", "ing", "▁and"]
    r, ing, s, again, and_ = labels.ids
    heard = [0, r, 0, *[ing] * 6, 0, s, *[again] * 3, 0, *[and_] * 2]
    log_probs = np.full((len(heard), tokenizer.vocab_size), -9.0, np.float32)
    log_probs[range(len(heard)), heard] = -0.5
    path = align_labels(log_probs, labels, len(aligned.ids), name="test")
    spoken = [place for place, word in enumerate(aligned.word_indices) if word >= 0]
    spans = list(zip(path.first[spoken].tolist(), path.last[spoken].tolist(), strict=True))
    rings = [(1, 2), (3, 5), (5, 7), (7, 9), (10, 11), (11, 12), (12, 13), (13, 14)]
    assert spans == [*rings, (15, 15), (15, 16), (16, 17)]
    assert path.log_probs.sum() == pytest.approx(-0.5 * 13)


def test_word_segments_of_given_scores(tone_bundle: Bundle) -> None:
    aligned = tone_bundle.tokenizer.encode_aligned("a b")  # SIL a SIL b SIL
    scores = torch.full((10, 5), -9.0)
    for frame, token in enumerate([0, 0, 1, 1, 1, 3, 3, 4, 4, 4]):
        scores[frame, token] = -0.1
    (path,) = find_paths(scores[None], torch.tensor([10]), [aligned])
    clock = FrameGrid.of(tone_bundle.features).clock(10, 0.09)
    first, second = word_segments(path, aligned, clock)
    assert (first.label, second.label) == ("a", "b")
    assert (first.start, first.end) == pytest.approx((0.015, 0.045))
    assert (second.start, second.end) == pytest.approx((0.045, 0.065))
    assert first.confidence == pytest.approx(np.exp(-0.1))


def test_pictures(tone_bundle: Bundle, speak: Callable, tmp_path: Path) -> None:
    from speechmm.inference.alignment.plot import PictureFolder

    seen: list[tuple[Alignment, SoftAlignment]] = []
    folder = PictureFolder(tmp_path / "pictures")

    def observe(alignment: Alignment, soft: SoftAlignment) -> None:
        seen.append((alignment, soft))
        folder(alignment, soft)

    aligner = Aligner(tone_bundle, observer=observe)
    aligner.align(speak("ab cd").waveform, "$ab $cd$", id='a/"ä" $x_^{')
    ((alignment, soft),) = seen
    assert alignment.id == 'a/"ä" $x_^{'
    assert soft.features.shape == (soft.log_probs.shape[0], 80)
    assert soft.labels == ["", "a", "b", "", "c", "d", ""]
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")

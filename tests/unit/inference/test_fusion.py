"""External scores of a beam search: against full recomputation, and batching changes nothing."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechmm.alignments.scripts import written_words
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.inference.recognition.fusion import lexicon, ngram
from speechmm.inference.recognition.fusion.hotwords import HotwordScorer
from speechmm.inference.recognition.fusion.lexicon import LexiconScorer
from speechmm.inference.recognition.fusion.load import load_scorers, read_phrases
from speechmm.inference.recognition.fusion.neural_lm import LanguageModelScorer
from speechmm.inference.recognition.fusion.ngram import NgramScorer
from speechmm.inference.recognition.fusion.scorer import Scorer, word_starts
from speechmm.inference.recognition.options import FusionOptions, SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.language_model import LanguageModel, LanguageModelConfig
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.ngram import estimate_ngrams
from speechmm.text.tokenizer import EOS, SPECIALS, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer

TEXTS = ["ab ba", "a b ab", "ba ba ab", "b ab ab ba"] * 5
TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=32, encoder_layers=2, decoder_layers=1, front_channels=4
)
CPU = torch.device("cpu")


@pytest.fixture(params=["char", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    size = 11 if request.param == "bpe" else None
    return train_tokenizer(TEXTS, kind=request.param, vocab_size=size)


def language_model(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageModelConfig(d_model=16, heads=2, ff_dim=32, layers=2)
    return LanguageModel(config, vocab_size=tokenizer.vocab_size).eval()


def scorers(tokenizer: Tokenizer) -> list[Scorer]:
    return [
        NgramScorer(estimate_ngrams(TEXTS, order=3), tokenizer, 0.4),
        HotwordScorer(["ab ba", "ba"], tokenizer, 1.5),
        LanguageModelScorer(language_model(tokenizer), 0.3),
        LexiconScorer(["ab", "ba"], tokenizer, 0.7),
    ]


def walked(scorer: Scorer, ids: list[int]) -> float:
    """The sum of what a text and its end add, token by token, with a second row in company."""
    with torch.inference_mode():
        state = scorer.start(2, CPU)
        total = 0.0
        for token in [*ids, EOS]:
            total += float(state.scores()[1, token])
            state.advance(torch.tensor([1, 1]), torch.tensor([token, token]))
    return total


@pytest.mark.parametrize("text", ["ab", "ab ba", "b ab ab ba", "ba b", ""])
def test_ngrams_add_the_probability_of_the_sentence(
    text: str, tokenizer: Tokenizer, sentence_log_prob: Callable
) -> None:
    model = estimate_ngrams(TEXTS, order=3)
    found = walked(NgramScorer(model, tokenizer, 1.0), tokenizer.encode(text))
    assert found == pytest.approx(sentence_log_prob(model, text), rel=1e-5)


def test_little_is_kept_and_nothing_changes_by_that(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = scorers(tokenizer)
    monkeypatch.setattr(ngram, "MOST_KEPT", 3)
    monkeypatch.setattr(lexicon, "MOST_BYTES", 3 * 4 * tokenizer.vocab_size)
    bounded = scorers(tokenizer)
    for words in itertools.product(["a", "b", "ab", "ba", "bab"], repeat=3):
        ids = tokenizer.encode(" ".join(words))
        for first, second in zip(plain, bounded, strict=True):
            assert walked(first, ids) == walked(second, ids), words
    kept = [one._kept_scores for one in bounded if isinstance(one, NgramScorer)]
    kept += [one._kept_row for one in bounded if isinstance(one, LexiconScorer)]
    assert [one.cache_info().currsize for one in kept] == [3, 3]


def test_words_of_a_foreign_spelling_are_found(sentence_log_prob: Callable) -> None:
    tokenizer = train_tokenizer(TEXTS, kind="char")
    model = estimate_ngrams([text.upper() for text in TEXTS], order=2)
    found = walked(NgramScorer(model, tokenizer, 1.0), tokenizer.encode("ab ba"))
    assert found == pytest.approx(sentence_log_prob(model, "AB BA"), rel=1e-5)


def test_the_word_s_is_no_start_of_a_sentence(sentence_log_prob: Callable) -> None:
    """The normalizer makes "s" of "<s>" and "</s>", which stand for something else."""
    tokenizer = train_tokenizer(["a b s"], kind="char")
    model = estimate_ngrams(["a b", "b a"], order=2)
    found = walked(NgramScorer(model, tokenizer, 1.0), tokenizer.encode("a s b"))
    assert found == pytest.approx(sentence_log_prob(model, "a s b"), rel=1e-5)


def test_the_language_model_adds_what_it_says_of_the_whole_text(tokenizer: Tokenizer) -> None:
    model = language_model(tokenizer)
    ids = tokenizer.encode("ab ba b")
    with torch.inference_mode():
        logits = model(torch.tensor([ids]))[0].log_softmax(-1)
    full = sum(float(row[token]) for row, token in zip(logits, [*ids, EOS], strict=True))
    assert walked(LanguageModelScorer(model, 1.0), ids) == pytest.approx(full, rel=1e-4)


def said(
    phrases: list[list[int]],
    ids: list[int],
    starts: set[int],
    alone: bool,
    letters: set[int] | None = None,
) -> int:
    """Tokens of all occurrences of the phrases at word boundaries, by trying every place."""
    letters = letters or set()  # that are words themselves
    total = 0
    for phrase, first in itertools.product(phrases, range(len(ids))):
        last = first + len(phrase)
        begins = first == 0 or (ids[first - 1] in starts if alone else ids[first] in starts)
        ends = last == len(ids) or (last < len(ids) and ids[last] in starts)
        begins = begins or bool(
            {ids[first], ids[first - 1]} & letters and (alone or ids[first] in letters)
        )
        ends = ends or (last < len(ids) and bool({ids[last], ids[last - 1]} & letters))
        total += len(phrase) * (begins and ends and ids[first:last] == phrase)
    return total


def test_phrases_get_their_bonus_and_nothing_else_does(tokenizer: Tokenizer) -> None:
    phrases = ["ab ba", "b", "ba a", "ab", "b ab b"]
    scorer = HotwordScorer([*phrases, "xyz"], tokenizer, 2.0)
    starts = set(word_starts(tokenizer))
    spelled = [tokenizer.encode(phrase) for phrase in phrases]
    for size in range(5):
        for words in itertools.product(["a", "b", "ab", "ba"], repeat=size):
            ids = tokenizer.encode(" ".join(words))
            expected = 2.0 * said(spelled, ids, starts, tokenizer.kind == "char")
            assert walked(scorer, ids) == pytest.approx(expected), words


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_hotwords_of_a_file_are_its_lines_without_a_byte_order_mark(
    encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "names.txt"
    path.write_text("ab ba\n\n  Brno, Praha \n", encoding)
    assert read_phrases(str(path)) == ["ab ba", "Brno, Praha"]
    assert read_phrases(" ab ba,, Brno ") == ["ab ba", "Brno"]
    assert read_phrases("ab, " * 2000) == ["ab"] * 2000  # longer than a path may be


def test_words_outside_the_lexicon_have_their_penalty(tokenizer: Tokenizer) -> None:
    listed = ["ab", "ba", "bab"]
    scorer = LexiconScorer(["AB ba", "bab"], tokenizer, 3.0)
    for size in range(4):
        for words in itertools.product(["a", "b", "ab", "ba", "bab", "bb", "abab"], repeat=size):
            unlisted = sum(word not in listed for word in words)
            found = walked(scorer, tokenizer.encode(" ".join(words)))
            assert found == pytest.approx(-3.0 * unlisted), words


def test_the_penalty_comes_where_no_listed_word_goes_on() -> None:
    tokenizer = train_tokenizer(TEXTS, kind="char")
    state = LexiconScorer(["ab", "bab"], tokenizer, 3.0).start(1, CPU)
    added = []
    for token in [*tokenizer.encode("ba bbab a"), EOS]:
        added.append(float(state.scores()[0, token]))
        state.advance(torch.tensor([0]), torch.tensor([token]))
    # b a _ b b a b _ a end: "ba" ends too soon, "bb" begins no word, "a" ends too soon
    assert added == [0, 0, -3, 0, -3, 0, 0, 0, 0, -3]


def test_a_letter_unknown_to_the_tokenizer_makes_no_listed_word() -> None:
    tokenizer = train_tokenizer(TEXTS, kind="char")
    scorer = LexiconScorer(["ab", "axb"], tokenizer, 3.0)
    assert walked(scorer, tokenizer.encode("axb ab")) == -3.0


def test_a_list_without_words_is_a_mistake(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="expected at least one"):
        LexiconScorer(["...", " "], tokenizer, 3.0)


@pytest.fixture
def model(tokenizer: Tokenizer) -> SpeechTextModel:
    torch.manual_seed(0)
    return SpeechTextModel(TINY, vocab_size=tokenizer.vocab_size, n_mels=20).eval()


@pytest.mark.parametrize("decoder", ["joint", "attention"])
def test_a_batch_of_many_is_many_batches(
    decoder: str, model: SpeechTextModel, tokenizer: Tokenizer
) -> None:
    options = SearchOptions(decoder=decoder, beam=4, n_best=2)
    torch.manual_seed(1)
    lengths = torch.tensor([30, 61, 45, 22])
    features = torch.randn(4, 61, 20)
    with torch.inference_mode():
        together = search(
            model, model.encode_speech(features, lengths), options, scorers(tokenizer)
        )
        for row, length in enumerate(lengths.tolist()):
            alone = model.encode_speech(features[row : row + 1, :length], lengths[row : row + 1])
            (found,) = search(model, alone, options, scorers(tokenizer))
            assert [h.tokens for h in found] == [h.tokens for h in together[row]]
            for mine, theirs in zip(found, together[row], strict=True):
                assert mine.score == pytest.approx(theirs.score, abs=1e-3)


def test_scores_of_results_are_those_of_a_full_recomputation(
    model: SpeechTextModel, tokenizer: Tokenizer
) -> None:
    options = SearchOptions(decoder="attention", beam=4, n_best=3, length_bonus=0.2)
    torch.manual_seed(2)
    encoding = model.encode_speech(torch.randn(1, 40, 20), torch.tensor([40]))
    external = scorers(tokenizer)
    (found,) = search(model, encoding, options, external)
    assert len(found) == 3
    for hypothesis in found:
        with torch.inference_mode():
            logits = (
                model.decode(torch.tensor([hypothesis.tokens]), encoding).logits[0].log_softmax(-1)
            )
        path = zip(logits, [*hypothesis.tokens, EOS], strict=True)
        total = sum(float(row[token]) for row, token in path)
        total += sum(one.weight * walked(one, hypothesis.tokens) for one in external)
        assert hypothesis.score == pytest.approx(total + 0.2 * len(hypothesis.tokens), abs=1e-3)


def test_a_bonus_brings_the_phrase_out(model: SpeechTextModel, tokenizer: Tokenizer) -> None:
    options = SearchOptions(decoder="attention", beam=6)
    torch.manual_seed(3)
    encoding = model.encode_speech(torch.randn(1, 40, 20), torch.tensor([40]))
    phrase = tokenizer.encode("ab ba")
    (without,) = search(model, encoding, options)
    (with_it,) = search(model, encoding, options, [HotwordScorer(["ab ba"], tokenizer, 9.0)])
    assert without[0].tokens != phrase
    assert bytes(phrase) in bytes(with_it[0].tokens)
    assert all(token >= len(SPECIALS) or token == 1 for token in with_it[0].tokens)


MIXED = ["北京 ab", "ab北", "北京北京", "京ab ab", "b北 京a", "กิน กา", "เกา"]


@pytest.fixture(params=["char", "bpe"])
def mixed(request: pytest.FixtureRequest) -> Tokenizer:
    """Of a script with spaces and two without."""
    size = 24 if request.param == "bpe" else None
    return train_tokenizer(MIXED * 4, kind=request.param, vocab_size=size)


def texts_of(tokenizer: Tokenizer) -> list[str]:
    words = ["北", "京", "ab", "b", " ", "ก", "เก", "กิ"]
    texts = ["".join(parts) for size in range(5) for parts in itertools.product(words, repeat=size)]
    texts = [" ".join(text.split()) for text in texts]
    return [text for text in sorted(set(texts)) if tokenizer.decode(tokenizer.encode(text)) == text]


def test_letters_of_scripts_without_spaces_are_words_of_a_model(
    mixed: Tokenizer, sentence_log_prob: Callable
) -> None:
    model = estimate_ngrams(MIXED, order=3)
    assert {"北", "京", "ab", "กิ", "เก"} <= model.vocabulary
    scorer = NgramScorer(model, mixed, 1.0)
    texts = texts_of(mixed)
    assert len(texts) > 500
    for text in texts[::7]:
        expected = sentence_log_prob(model, " ".join(written_words(text)))
        assert walked(scorer, mixed.encode(text)) == pytest.approx(expected, rel=1e-5), text


def test_letters_of_scripts_without_spaces_are_words_of_a_list(mixed: Tokenizer) -> None:
    scorer = LexiconScorer(["北", "ab กิ"], mixed, 3.0)
    for text in texts_of(mixed)[::7]:
        unlisted = sum(word not in ("北", "ab", "กิ") for word in written_words(text))
        assert walked(scorer, mixed.encode(text)) == pytest.approx(-3.0 * unlisted), text


def test_phrases_are_found_where_no_space_is() -> None:
    tokenizer = train_tokenizer(["北京 ab", "ab北"], kind="char")
    phrases = ["北京", "ab", "京", "京b", "b北"]
    scorer = HotwordScorer(phrases, tokenizer, 2.0)
    starts = set(word_starts(tokenizer))
    letters = {tokenizer.pieces.index(letter) for letter in "北京"}
    spelled = [tokenizer.encode(phrase) for phrase in phrases]
    for parts in itertools.product(["北", "京", "a", "b", " "], repeat=5):
        ids = tokenizer.encode(" ".join("".join(parts).split()))
        expected = 2.0 * said(spelled, ids, starts, True, letters)
        assert walked(scorer, ids) == pytest.approx(expected), parts


@pytest.mark.parametrize("flag", ["lm", "words"])
def test_words_are_nothing_to_a_model_that_writes_phones(flag: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["hello world"], kind="phone")
    path = tmp_path / "a"
    path.write_text("hello world\n")
    estimate_ngrams(["hello world"], order=2).write(path) if flag == "lm" else None
    options = FusionOptions(lm=path) if flag == "lm" else FusionOptions(words=(path,))
    with pytest.raises(ConfigError, match=f"--{flag}: the model writes phones"):
        load_scorers(options, tokenizer, skipped=SkipReport())

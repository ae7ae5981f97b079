"""Tokenizers of every kind: ids, words, files, workers, refusals."""

import json
import pickle
from pathlib import Path

import pytest

from speechmm.errors import CheckpointError, ConfigError
from speechmm.text import tokenizer as module
from speechmm.text import tokenizer_training
from speechmm.text.tokenizer import (
    BLANK,
    BOS,
    EOS,
    KINDS,
    SIL,
    SPECIALS,
    UNK,
    Tokenizer,
)
from speechmm.text.tokenizer_training import train_tokenizer

TEXTS = ["Hello, world!", "it's a good day — don't panic", "twenty-two people say hello"] * 3


@pytest.fixture(autouse=True)
def spelled_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phones without espeak-ng: each letter twice in capitals is one phone."""
    for room in (module, tokenizer_training):
        monkeypatch.setattr(room, "phones_of", lambda word, _: [c.upper() * 2 for c in word])


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(TEXTS, kind=request.param)


def test_special_ids_are_the_same_for_every_kind(tokenizer: Tokenizer) -> None:
    assert (BLANK, UNK, BOS, EOS, SIL) == (0, 1, 2, 3, 4)
    assert tuple(tokenizer.pieces[:5]) == SPECIALS
    assert tokenizer.vocab_size == len(tokenizer.pieces) == len(set(tokenizer.pieces))


def test_decode_undoes_encode(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Don't  say: twenty-two!")
    assert min(ids) > SIL
    text = tokenizer.decode(ids)
    if tokenizer.kind == "phone":
        assert text == "DDOONN''TT SSAAYY TTWWEENNTTYY TTWWOO"
    else:
        assert text == "don't say twenty two"


def test_decode_drops_specials_and_ids_out_of_range(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("hello")
    noisy = [BOS, SIL, *ids, EOS, BLANK, -1, 10_000]
    assert tokenizer.decode(noisy) == tokenizer.decode(ids)
    assert tokenizer.decode([]) == ""


def test_empty_text_has_no_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(" — ") == []
    assert tokenizer.encode_words("") == []
    assert tokenizer.encode_aligned("").ids == [SIL]


def test_unseen_characters_become_unk(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("zoo")
    assert UNK in ids
    assert "⁇" in tokenizer.decode(ids)
    assert "⁇" in tokenizer.token_labels(tokenizer.encode_aligned("zoo").ids)
    unseen = {"ZZ"} if tokenizer.kind == "phone" else {"z"}
    assert tokenizer.unknown_characters("hello zoo") == unseen
    assert tokenizer.unknown_characters("hello") == set()


def test_space_piece_stands_between_words_only() -> None:
    tokenizer = train_tokenizer(TEXTS, kind="char")
    space = tokenizer.pieces.index("▁")
    ids = tokenizer.encode(" a day ")
    assert ids.count(space) == 1
    assert space not in (ids[0], ids[-1])
    assert tokenizer.token_labels(ids) == ["a", "", "d", "a", "y"]


def test_the_space_sign_itself_is_unknown_text() -> None:
    tokenizer = train_tokenizer(["a ▁ b"], kind="char", normalizer="verbatim")
    assert UNK in tokenizer.encode("a ▁ b")
    assert tokenizer.unknown_characters("▁") == {"▁"}


def test_words_keep_their_spelling(tokenizer: Tokenizer) -> None:
    words = tokenizer.encode_words("Hello, — TWENTY-TWO")
    assert [word for word, _ in words] == ["Hello,", "—", "TWENTY-TWO"]
    assert words[1][1] == []
    spoken = "".join(tokenizer.decode(words[2][1]).split()).lower()
    assert spoken == ("ttwweennttyyttwwoo" if tokenizer.kind == "phone" else "twentytwo")


def test_aligned_text_has_silence_around_every_word(tokenizer: Tokenizer) -> None:
    aligned = tokenizer.encode_aligned("Hello, — people")
    assert aligned.words == ["Hello,", "—", "people"]
    assert len(aligned.ids) == len(aligned.word_indices)
    silent = [index for index, id in enumerate(aligned.ids) if id == SIL]
    assert len(silent) == 3
    assert [aligned.word_indices[index] for index in silent] == [-1, -1, -1]
    assert (silent[0], silent[-1]) == (0, len(aligned.ids) - 1)
    assert set(aligned.word_indices) == {-1, 0, 2}


def test_pieces_say_how_many_characters_they_cover() -> None:
    tokenizer = train_tokenizer(["singing and ringing"] * 9, kind="bpe", vocab_size=22)
    spans = tokenizer.encode_spans("ring-zing")
    labels = [(tokenizer.pieces[token], count) for token, count in spans]
    assert labels == [("▁r", 1), ("ing", 3), ("▁", 0), ("<unk>", 1), ("ing", 3)]
    aligned = tokenizer.encode_aligned("ring-zing")
    assert tokenizer.token_labels(aligned.ids) == ["", *"ring⁇ing", ""]
    assert tokenizer.align_vocab_size == 5 + len(set("singingandringing"))


def test_file_round_trip(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "a b" / "tök.json"
    tokenizer.save(path, made_from={"seed": 1})
    loaded = Tokenizer.load(path)
    assert loaded.to_dict() == tokenizer.to_dict()
    assert loaded.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
    assert json.loads(path.read_text("utf-8"))["made_from"] == {"seed": 1}
    assert [file.name for file in path.parent.iterdir()] == ["tök.json"]


def test_goes_to_worker_processes(tokenizer: Tokenizer) -> None:
    tokenizer.encode_aligned("hello")
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode_aligned("hello people") == tokenizer.encode_aligned("hello people")


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same(kind: str) -> None:
    first, second = (train_tokenizer(TEXTS, kind=kind).to_dict() for _ in range(2))
    assert first == second


def test_vocabulary_size_is_kept() -> None:
    assert train_tokenizer(TEXTS, kind="bpe", vocab_size=40).vocab_size == 40
    assert train_tokenizer(TEXTS, kind="unigram", vocab_size=30).vocab_size <= 30


@pytest.mark.parametrize(
    ("kind", "vocab_size", "message"),
    [
        ("bpe", 5, r"found 5; expected at least \d+"),
        ("unigram", 5, r"found 5; expected at least \d+"),
        ("bpe", 4000, r"found 4000; expected at most \d+"),
        ("char", 40, "found 40 for a char tokenizer; expected none"),
        ("phone", 40, "found 40 for a phone tokenizer; expected none"),
        ("word", None, 'found "word"; expected one of char, bpe, unigram, phone'),
    ],
)
def test_impossible_settings(kind: str, vocab_size: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_tokenizer(TEXTS, kind=kind, vocab_size=vocab_size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], ["", " ... "]])
def test_no_text(kind: str, texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="found no words"):
        train_tokenizer(texts, kind=kind)


def test_unknown_normalizer_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="expected one of verbatim, basic, multilingual, turkish, english"
    ):
        train_tokenizer(TEXTS, kind="char", normalizer="none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "it holds list, no object"),
        (b'{"format": "speechmm-tokenizer/9"}', "speechmm-tokenizer/9"),
        (b'{"format": "speechmm-tokenizer/1"}', "not a usable tokenizer"),
    ],
)
def test_bad_files(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "words"),
        ("normalizer", "none"),
        ("pieces", ["a"]),
        ("pieces", 7),
        ("sentencepiece", "####"),
        ("sentencepiece", "AAAA"),
        ("sentencepiece", None),
    ],
)
def test_damaged_values(key: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    data = train_tokenizer(TEXTS, kind="bpe").to_dict() | {key: value}
    path.write_text(json.dumps(data), "utf-8")
    with pytest.raises(CheckpointError, match="not a usable tokenizer"):
        Tokenizer.load(path)


def test_pieces_that_do_not_match_the_model(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    data = train_tokenizer(TEXTS, kind="bpe").to_dict()
    data["pieces"] = data["pieces"][:-1]
    path.write_text(json.dumps(data), "utf-8")
    with pytest.raises(CheckpointError, match="pieces and the file"):
        Tokenizer.load(path)

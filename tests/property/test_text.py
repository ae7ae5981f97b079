"""Any text at all: normalizers are stable, tokenizers lose nothing they know."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import SIL
from speechmm.text.tokenizer_training import train_tokenizer

TEXT = st.text(max_size=40)
WORDS = st.lists(st.text("abcdé'", min_size=1, max_size=6), min_size=1, max_size=6)
TOKENIZERS = {
    kind: train_tokenizer(["ab ba cab dad é a'b éé cc dd bb"] * 5, kind=kind)
    for kind in ("char", "bpe", "unigram")
}


@given(TEXT)
@pytest.mark.parametrize("name", ["verbatim", "basic", "multilingual", "turkish"])
def test_normalizing_again_changes_nothing(name: str, text: str) -> None:
    once = normalize(text, name)
    assert normalize(once, name) == once
    assert once == " ".join(once.split())


@given(TEXT)
def test_basic_ignores_case_and_keeps_words_apart(text: str) -> None:
    assert normalize(text.casefold(), "basic") == normalize(text, "basic")
    assert normalize(f"{text} word", "basic").split()[-1] == "word"


SCRIPTS = (
    "aIéıİßẞσΣςчЁאב׳״\"'’ʼʻgأبـه\u200c\u200dकष\u094dনീ\u0d4dกำน้\u0e4dาลແຳ་བ၏မ·lL我ー한ﬁＡ½ᏣէՐ՞́ ♪-1٣"
)


@given(st.one_of(TEXT, st.text(SCRIPTS, max_size=12)))
def test_multilingual_is_stable_whatever_the_form(text: str) -> None:
    once = normalize(text, "multilingual")
    assert normalize(once, "multilingual") == once == unicodedata.normalize("NFC", once)
    for form in ("NFC", "NFD"):
        assert normalize(unicodedata.normalize(form, text), "multilingual") == once
    words = (normalize(word, "multilingual") for word in text.split())
    assert once == " ".join(word for word in words if word)  # a word is spelled alike everywhere


LOWER_LETTERS = st.characters(categories=["Ll", "Lo", "Lm", "Nd"]).filter(
    lambda letter: (
        letter not in "\u0640\u07fa\u115f\u1160\u3164ʼ"
        and letter == unicodedata.normalize("NFKC", letter) == letter.casefold()
    )
)


@given(st.lists(st.text(LOWER_LETTERS, min_size=1, max_size=6), min_size=1, max_size=4))
def test_multilingual_keeps_every_letter(words: list[str]) -> None:
    text = unicodedata.normalize("NFC", " ".join(words))
    assert normalize(text, "multilingual") == text
    assert normalize(f"«{text}» – ♪ ...", "multilingual") == text


@given(st.text(st.characters(max_codepoint=127)))
def test_multilingual_is_basic_for_ascii(text: str) -> None:
    assert normalize(text, "multilingual") == normalize(text, "basic")


@given(WORDS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_known_text_comes_back(kind: str, words: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    text = " ".join(words)
    assert tokenizer.decode(tokenizer.encode(text)) == normalize(text, tokenizer.normalizer)


@given(TEXT)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_aligned_ids_are_the_words_between_silences(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    words = tokenizer.encode_words(text)
    aligned = tokenizer.encode_aligned(text)
    assert [word for word, _ in words] == text.split() == aligned.words
    for index, (word, ids) in enumerate(words):
        mine = [i for i, w in zip(aligned.ids, aligned.word_indices, strict=True) if w == index]
        signs = normalize(word, tokenizer.normalizer).replace(" ", "")
        known = [sign if sign in tokenizer.align_pieces else "⁇" for sign in signs]
        assert tokenizer.token_labels(mine) == known
        spans = tokenizer.encode_spans(word)
        assert sum(count for _, count in spans) == len(mine)
        space = tokenizer.pieces.index("▁") if kind == "char" else None
        assert [token for token, _ in spans if token != space] == ids
    assert aligned.ids.count(SIL) == 1 + sum(bool(ids) for _, ids in words)

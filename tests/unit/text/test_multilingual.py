"""The multilingual normalizer: every word spelled as its language spells it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechmm.text import multilingual
from speechmm.text.multilingual import folded, has_dotless_i, normalize_words
from speechmm.text.normalize import DEFAULT_NORMALIZER, normalize
from speechmm.text.tokenizer_training import train_tokenizer

SPELLED = [
    ("Ο λόγος του θεός. ΛΌΓΟΣ", "ο λόγος του θεός λόγος"),
    ("Die große STRAẞE, in Maßen und Massen", "die große straße in maßen und massen"),
    ("İstanbul güzel. Işık Iğdır", "istanbul güzel ışık ığdır"),
    ("IT is I", "it is i"),
    ("น้ำ ทำ คำ", "น้ำ ทำ คำ"),
    (unicodedata.normalize("NFKC", "น้ำ ຂອງນ້ຳ"), "น้ำ ຂອງນ້ຳ"),
    ("น\u0e4d\u0e49า", "น้ำ"),
    ("مرحبـــا بكم", "مرحبا بكم"),
    ("مَرْحَبًا ۱۲۳ ٣", "مَرْحَبًا ۱۲۳ ٣"),
    ("ﻣﺮﺣﺒﺎ", "مرحبا"),
    ("می\u200cروم، خانه\u200cها", "می\u200cروم خانه\u200cها"),
    ("नमस्ते दुनिया। क\u094d\u200dष", "नमस्ते दुनिया क\u094d\u200dष"),
    ("ශ\u0dca\u200dරී ලංකා", "ශ\u0dca\u200dරී ලංකා"),
    ("র\u200d\u09cdযাব", "র\u200d\u09cdযাব"),
    ("അവന\u0d4d\u200d", "അവൻ"),
    ("לא־ירד ג'ורג' צה\"ל צה״ל 'שלום'", "לא ירד ג׳ורג׳ צה״ל צה״ל שלום"),
    ("Col·lecció COL•LECCIÓ coŀlecció A·B", "col·lecció col·lecció col·lecció a b"),
    ("ʻŌlelo Hawaiʻi oʻzbek ʼYan", "ʻōlelo hawaiʻi oʻzbek ʼyan"),
    ("п’ять п'ять пʼять", "п'ять п'ять п'ять"),
    ("L’été aujourd’hui, po’ d’accord", "l'été aujourd'hui po d'accord"),
    ("don’t don´t don`t donʼt “quoted” ‘x’ ♪ 😀", "don't don't don't don't quoted x"),
    ("❤️ 1️⃣ ☎️ 👩\u200d👧", "1"),
    ("ինչո՞ւ բարև՜", "ինչու բարև"),
    ("ＡＢＣ ﬁne ｶﾞｷﾞ", "abc fine ガギ"),
    ("½ Ⅳ ㎏ tʰ", "1 2 iv kg tʰ"),
    ("ᏣᎳᎩ", "ᏣᎳᎩ"),
    ("ᲥᲐᲠᲗᲣᲚᲘ", "ქართული"),
    ("བོད་ཡིག། བོད་", "བོད་ཡིག བོད"),
    ("ကျွန်ုပ်၏ မြန်မာ။", "ကျွန်ုပ်၏ မြန်မာ"),
    ("안녕 ㅋㅋ", "안녕 ㅋㅋ"),
    ("twenty-two – rock'n'roll dogs' 3.5 a\u00adb", "twenty two rock'n'roll dogs 3 5 ab"),
    ("\u0301 a — ʼ '", "a"),
]


@pytest.mark.parametrize(("text", "expected"), SPELLED)
def test_words_keep_their_spelling(text: str, expected: str) -> None:
    assert DEFAULT_NORMALIZER == "multilingual"
    expected = unicodedata.normalize("NFC", expected)
    for form in ("NFC", "NFD"):
        assert normalize(unicodedata.normalize(form, text), "multilingual") == expected
    assert normalize(expected, "multilingual") == expected


def test_what_is_learned_is_what_was_written() -> None:
    text = " ".join(expected for _, expected in SPELLED if "ʼ" not in expected)
    tokenizer = train_tokenizer([text], kind="char")
    assert tokenizer.normalizer == "multilingual"
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_turkish_has_its_own_capitals() -> None:
    assert normalize("ILIK SU, IŞIK. İyi", "turkish") == "ılık su ışık iyi"
    assert has_dotless_i(["ok", "DAĞ"]) and not has_dotless_i(["IŞIK", "şi"])


def test_scores_compare_without_differences_of_typing() -> None:
    same = [("straße", "strasse"), ("λόγος", "λόγοσ"), ("٣٤", "34"), ("o'zbek", "oʻzbek")]
    same += [("می\u200cروم", "میروم"), ("ʼyan", "yan"), ("רח׳", "רח"), ("ᏣᎳ", "ᏣᎳ")]
    for one, other in same:
        assert folded(one) == folded(other)
    for one, other in [("ılık", "ilik"), ("é", "e"), ("ё", "е"), ("ʻ", "")]:
        assert folded(one) != folded(other)


@given(st.text("aAbIiZz09", min_size=1))
def test_plain_words_take_a_shorter_way_to_the_same(word: str) -> None:
    assert normalize_words(word) == multilingual._once(word, turkic=False) == word.lower()

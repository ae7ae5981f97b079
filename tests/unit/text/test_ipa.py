"""Phones written in other ways, and those like them."""

import unicodedata

import pytest

from speechmm.text.ipa import fold_phone, nearest_phones

LETTERS = (
    "pbtdʈɖcɟkɡqɢʔmɱnɳɲŋɴʙrʀⱱɾɽɸβfvθðszʃʒʂʐçʝxɣχʁħʕhɦɬɮʋɹɻjɰlɭʎʟʘǀǃǂǁɓɗʄɠʛʍwɥʜʢʡɕʑɺɧ"
    "iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒ"
)
"""The consonants, clicks, implosives and vowels of the IPA's chart of 2020."""
COMMON = set("ptkbdɡmnŋfvszʃhxrlwjieaou") | {"ə", "ɛ", "ɔ"}


@pytest.mark.parametrize(
    ("phone", "folded"),
    [
        ("t͡ʃ", "tʃ"),
        ("aː", "a"),
        ("g", "ɡ"),
        ("kʰ", "kʰ"),
        ("ʦ", "ts"),
        ("k`", "k"),
        ("ɑ̃ː", "ɑ̃"),
        ("ː", "ː"),
    ],
)
def test_ties_length_and_other_alphabets_make_no_difference(phone: str, folded: str) -> None:
    assert fold_phone(phone) == unicodedata.normalize("NFC", folded)


@pytest.mark.parametrize("letter", LETTERS)
def test_every_letter_of_the_chart_has_a_common_one_like_it(letter: str) -> None:
    found = list(nearest_phones(letter))
    assert found[0] == letter
    assert COMMON & set(found)
    vowels = "iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒ"
    nearest = next(one for one in found if one in COMMON)
    assert (letter in vowels) == (nearest in vowels)


def test_marks_are_left_out_before_letters_are_changed() -> None:
    found = list(nearest_phones("ɓʷ"))
    assert found[:3] == ["ɓ", "ɓ", "b"]
    assert list(nearest_phones("onɡ"))[:2] == ["onɡ", "o"]
    assert next(iter(nearest_phones("ɪ̃ʊ̃"))) == "ɪʊ"
    assert next(iter(nearest_phones("çʷ"))) == "ç"

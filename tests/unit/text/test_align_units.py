"""What an aligner without a tokenizer cuts words into."""

from dataclasses import replace

from speechmm.options import EACH
from speechmm.text.align_units import RARE, AlignUnits, bare, cut
from speechmm.text.phonemes import voice_of_script


def test_marks_belong_to_their_letters_and_ties_make_one_sound() -> None:
    assert cut("kʰaːt͡ʃ", None) == ["kʰ", "aː", "t͡ʃ"]
    assert cut("Müller's", None) == ["m", "ü", "l", "l", "e", "r", "'", "s"]
    assert cut("—", None) == []
    assert bare("kʰ") == "k"
    assert bare("t͡ʃ") == "t"


def test_vowel_signs_are_sounds_of_their_own() -> None:
    assert cut("कि", None) == ["क", "ि"]


def test_what_is_rare_because_of_its_marks_shares_the_bare_letter() -> None:
    units = AlignUnits.of([("kʰa", None)] + [("tʰo", None)] * RARE)
    assert units.units == ("a", "k", "o", "tʰ")
    aligned, labels = units.encode("kʰa tʰo – ha")
    assert labels == ["", "kʰ", "a", "", "tʰ", "o", "", "a", ""]
    assert aligned.ids == [-1, 1, 0, -1, 3, 2, -1, 0, -1]
    assert aligned.word_indices == [-1, 0, 0, -1, 1, 1, -1, 3, -1]
    assert units.unknown("kʰa ha") == ["h"]


def test_strings_of_phones_have_pauses_at_signs_alone() -> None:
    units = AlignUnits.of([("k a tʰ", None), ("a kʰ a", None)])
    assert units.spelled
    aligned, labels = units.encode("k a t | a k")
    assert labels == ["", "k", "a", "t", "", "a", "k", ""]
    assert aligned.word_indices == [-1, 0, 1, 2, -1, 4, 5, -1]
    assert not AlignUnits.of([("kat a kat", None)]).spelled


def test_figures_are_pronounced_with_and_without_signs_between_thousands() -> None:
    for grouped, plain, language in (
        ("1,000", "1000", "en-us"),
        ("1.250.000,", "1250000,", "de"),
        ("(12’500)", "(12500)", "de"),
    ):
        assert cut(grouped, language) == cut(plain, language)
    for other in ("1,00", "10.5", "1.2345", "192.168.100.1", "1,000.5"):
        assert cut(other, "en-us") != cut(other.replace(",", "").replace(".", ""), "en-us")


def test_letters_that_a_voice_calls_by_their_script_are_named() -> None:
    units = AlignUnits(("a",), EACH, shared=True)
    assert {"東", "京"} <= set(units.unknown("東京へ", "ja"))
    assert "京" in replace(units, language="ja").unknown("東京へ")
    assert not {"東", "京", "へ"} & set(units.unknown("東京", "cmn"))
    assert [voice_of_script(text) for text in ("東京", "東京都知事へ", "カタ", "mein Haus")] == [
        "cmn", "ja", "ja", "la",
    ]  # fmt: skip

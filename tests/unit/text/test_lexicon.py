"""Pronunciations in the files of other tools."""

from pathlib import Path

import pytest

from speechmm.errors import ConfigError
from speechmm.options import EACH
from speechmm.text.align_units import AlignUnits
from speechmm.text.lexicon import Lexicon, read_lexicon


def lexicon_of(tmp_path: Path, text: str) -> Lexicon:
    path = tmp_path / "words.dict"
    path.write_text(text, encoding="utf-8")
    return read_lexicon(path)


def test_files_of_cmudict_mfa_and_kaldi_are_read(tmp_path: Path) -> None:
    cmudict = lexicon_of(
        tmp_path, ";;; CMUdict\nREAD  R EH1 D\nREAD(2)  R IY1 D\nCAN'T K AE1 N T\n"
    )
    assert cmudict.variants("Read,") == (("R", "EH1", "D"), ("R", "IY1", "D"))
    assert cmudict.variants("can't") == (("K", "AE1", "N", "T"),)
    assert cmudict.is_arpabet
    assert [cmudict.ipa(phone) for phone in ("EH1", "IY0", "NG")] == ["ɛ", "i", "ŋ"]
    mfa = lexicon_of(
        tmp_path, "straße\t0.99\t0.14\t1.0\tʃ t ʁ aː s ə\nweg 0.5 v eː k\nweg 0.5 v ɛ k\n"
    )
    assert mfa.variants("Straße") == (("ʃ", "t", "ʁ", "aː", "s", "ə"),)
    assert len(mfa.variants("Weg")) == 2
    assert not mfa.is_arpabet


def test_a_word_that_the_normalizer_cuts_is_said_by_its_parts(tmp_path: Path) -> None:
    lexicon = lexicon_of(tmp_path, "e iː\nmail m eɪ l\n")
    assert lexicon.variants("e-mail") == (("iː", "m", "eɪ", "l"),)
    assert lexicon.variants("e-mails") == ()
    assert lexicon.missing(["e-mail", "x", "–", "x", "mail"]) == ["x"]


@pytest.mark.parametrize("text", ["", ";;; nothing", "word\n", "good g ʊ d\nbad 0.5\n"])
def test_what_is_no_lexicon_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected"):
        lexicon_of(tmp_path, text)


def test_phones_of_cmudict_are_placed_among_those_of_all_languages(tmp_path: Path) -> None:
    lexicon = lexicon_of(tmp_path, "ship SH IH1 P\nchip CH IH1 P\n")
    units = AlignUnits(("i", "p", "s", "t", "tʃ", "ʃ", "ɪ"), "en-us", shared=True, lexicon=lexicon)
    aligned, labels = units.encode("ship chip tip")
    assert labels == ["", "SH", "IH1", "P", "", "CH", "IH1", "P", "", "t", "ɪ", "p", ""]
    found = [units.units[number] for number in aligned.ids if number >= 0]
    assert found == ["ʃ", "ɪ", "p", "tʃ", "ɪ", "p", "t", "ɪ", "p"]


def test_units_of_all_languages_stand_for_those_like_them() -> None:
    units = AlignUnits(("a", "b", "i", "t", "tʃ"), EACH, shared=True)
    aligned, labels = units.encode("t͡ʃ aː | ɓ ɪ")
    assert labels == ["", "t͡ʃ", "aː", "", "ɓ", "ɪ", ""]
    assert [number for number in aligned.ids if number >= 0] == [4, 0, 1, 2]
    assert units.unknown("ʘ a") == []

import subprocess
import sys

import numpy as np
import pytest

from speechmm.errors import AlignmentError, ConfigError
from speechmm.text.espeak import library as module
from speechmm.text.phonemes import phonemize

pytest.importorskip("espeakng_loader")

TEXT = "set the alarm of the house, in the kitchen for a quarter past nine on march third"
VOICES = ["en-us+m1", "en-us+f3", "en-gb+m2", "en-us+klatt4", "en-029+f5", "en-gb-scotland+Annie"]


@pytest.fixture(scope="module")
def espeak():
    return module.load_espeak()


def level_db(waveform):
    return 10 * np.log10(np.mean(np.square(waveform)) + 1e-12)


@pytest.mark.parametrize("voice", VOICES)
def test_times_fit_the_waveform(espeak, voice):
    speech = espeak.synthesize(TEXT, voice=voice, rate_wpm=160)
    rate = speech.sample_rate

    def cut(start, end):
        return speech.waveform[round(start * rate) : round(end * rate)]

    assert [word.label for word in speech.words] == TEXT.split()
    assert speech.words[-1].end == pytest.approx(len(speech.waveform) / rate, abs=1e-4)
    assert level_db(cut(0, speech.words[0].start)) < -80
    loud = level_db(speech.waveform)
    for one, other in zip(speech.words[:-1], speech.words[1:], strict=True):
        assert one.end <= other.start
        assert level_db(cut(one.start, one.end)) > loud - 20
        if other.start - one.end > 0.004:  # an echo may be left in a pause
            assert level_db(cut(one.end, other.start)) < loud - 15
    pause = speech.words[6].start - speech.words[5].end  # after the comma
    assert 0.1 < pause < 0.25


def test_phones_cover_their_words_in_order(espeak):
    speech = espeak.synthesize(TEXT)
    starts = {phone.start for phone in speech.phones}
    ends = {phone.end for phone in speech.phones}
    assert all(word.start in starts and word.end in ends for word in speech.words)
    for one, other in zip(speech.phones[:-1], speech.phones[1:], strict=True):
        assert one.start < one.end <= other.start
    assert not any(set(phone.label) & set("ˈˌ ") or not phone.label for phone in speech.phones)


def test_words_said_as_one_are_told_apart(espeak):
    speech = espeak.synthesize("out of the box", voice="en-us")
    phones_of = {
        word.label: [p.label for p in speech.phones if word.start <= p.start < word.end]
        for word in speech.words
    }
    assert phones_of["of"] == ["ə", "v"]
    assert phones_of["the"][0] == "ð"


def test_a_number_in_digits_is_one_word(espeak):
    words = espeak.synthesize("in 2024 we met").words
    assert [word.label for word in words] == ["in", "2024", "we", "met"]
    assert words[1].duration > 3 * words[3].duration


def test_positions_count_letters_not_bytes(espeak):
    words = espeak.synthesize("die Größe über alles, schön wär’s", voice="de").words
    assert [word.label for word in words] == ["die", "Größe", "über", "alles,", "schön", "wär’s"]


def test_the_same_call_gives_the_same_samples(espeak):
    first = espeak.synthesize(TEXT, voice="en-us+m3")
    espeak.synthesize("something else", voice="en-gb+f2")
    again = espeak.synthesize(TEXT, voice="en-us+m3")
    assert np.array_equal(first.waveform, again.waveform)
    assert first.words == again.words


def test_another_process_gives_the_same_samples(espeak):
    here = espeak.synthesize("hello there", voice="en-us+m3").waveform
    code = (
        "from speechmm.text.espeak.library import load_espeak as e;"
        "print(e().synthesize('hello there', voice='en-us+m3').waveform.sum())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert float(there.stdout) == pytest.approx(float(here.sum()), abs=1e-6)


def test_rate_pitch_and_volume_have_an_effect(espeak):
    usual = espeak.synthesize(TEXT)
    assert len(espeak.synthesize(TEXT, rate_wpm=250).waveform) < 0.9 * len(usual.waveform)
    assert np.abs(espeak.synthesize(TEXT, volume=20).waveform).max() < 0.5
    higher = espeak.synthesize(TEXT, pitch=90).waveform
    assert not np.array_equal(higher[: len(usual.waveform)], usual.waveform[: len(higher)])


def test_phones_of_words(espeak):
    assert espeak.phonemes("of the quarter", "en-us") == [
        ["ʌ", "v"],
        ["ð", "ə"],
        ["k", "w", "ɔːɹ", "ɾ", "ɚ"],
    ]
    assert phonemize("house", "en-us") == ["h", "aʊ", "s"]
    assert phonemize("Haus", "de") == ["h", "aʊ", "s"]
    assert phonemize("-", "en-us") == []


def test_phonemize_gives_a_list_of_ones_own():
    phonemize("house", "en-us").append("x")
    assert phonemize("house", "en-us") == ["h", "aʊ", "s"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"voice": "xx-yy"}, "no language 'xx-yy'; expected one of .*en-us"),
        ({"voice": "en-us+nobody"}, "no voice variant 'nobody'; expected one of .*f1"),
        ({"rate_wpm": 10}, "rate_wpm is 10; expected 80 to 450"),
        ({"pitch": 200}, "pitch is 200; expected 0 to 99"),
    ],
)
def test_wrong_settings_are_named(espeak, settings, message):
    with pytest.raises(ConfigError, match=message):
        espeak.synthesize("hello", **settings)
    assert espeak.synthesize("hello").words  # and the library still works


def test_empty_text_and_silent_words_are_errors(espeak):
    with pytest.raises(ConfigError, match="text is empty"):
        espeak.synthesize("  ")
    with pytest.raises(AlignmentError, match="word 2 of 'yes … no'"):
        espeak.synthesize("yes … no")
    with pytest.raises(AlignmentError, match="is not spoken"):
        espeak.synthesize("…")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ConfigError, match=r"espeakng-loader is not installed.*speechmm\[synth\]"):
        module.Espeak()

import numpy as np
import pytest

from speechmm.text.espeak.events import Event, read_events, split_phones

RATE = 1000  # one sample a millisecond


def samples(*parts):
    """(level, milliseconds) in turn."""
    return np.concatenate([np.full(length, level, np.int16) for level, length in parts])


def spans(segments):
    return [(s.label, round(s.start * RATE), round(s.end * RATE)) for s in segments]


def never(text):
    raise AssertionError(f"asked how {text!r} is said")


def test_a_stop_begins_with_its_closure_and_a_fricative_does_not():
    speech = samples((9, 50), (0, 30), (9, 50), (0, 12), (9, 40), (0, 8))
    events = [
        Event("word", 0, 0),
        Event("phone", 0, 0, "a"),
        Event("phone", 80, 0, "t"),
        Event("word", 130, 3),
        Event("phone", 142, 3, "s"),
    ]
    words, phones = read_events("at s", events, speech, RATE, never)
    assert spans(phones) == [("a", 0, 50), ("t", 50, 130), ("s", 142, 182)]
    assert spans(words) == [("at", 0, 130), ("s", 142, 182)]


def test_a_pause_before_a_stop_is_no_closure():
    speech = samples((9, 50), (0, 300), (9, 50))
    events = [Event("phone", 0, 0, "a"), Event("phone", 50, 0, ""), Event("phone", 350, 2, "p")]
    events = [Event("word", 0, 0), *events[:2], Event("word", 50, 2), events[2]]
    words, _ = read_events("a p", events, speech, RATE, never)
    assert spans(words) == [("a", 0, 50), ("p", 350, 400)]


def test_a_word_event_before_the_last_consonant_is_over_is_not_believed():
    speech = samples((9, 300))
    events = [
        Event("word", 0, 0),
        Event("phone", 0, 0, "ɪ"),
        Event("phone", 100, 0, "n"),
        Event("word", 100, 3),
        Event("phone", 160, 3, "a"),
    ]
    words, _ = read_events("in a", events, speech, RATE, never)
    assert spans(words) == [("in", 0, 160), ("a", 160, 300)]


def test_a_phone_without_time_becomes_one_with_the_one_before():
    speech = samples((9, 100), (0, 40), (9, 60))
    events = [
        Event("word", 0, 0),
        Event("phone", 0, 0, "ɪ"),
        Event("phone", 100, 0, "l"),
        Event("word", 100, 4),
        Event("phone", 140, 4, "b"),
    ]
    words, phones = read_events("ill b", events, speech, RATE, never)
    assert spans(phones) == [("ɪl", 0, 100), ("b", 100, 200)]
    assert spans(words) == [("ill", 0, 100), ("b", 100, 200)]


def test_words_espeak_joined_are_shared_out_by_their_sound():
    speech = samples((9, 400))
    events = [
        Event("word", 0, 0),
        *(Event("phone", 100 * i, 0, label) for i, label in enumerate("əvðə")),
    ]
    words, _ = read_events("of the", events, speech, RATE, lambda text: [["ʌ", "v"], ["ð", "iː"]])
    assert spans(words) == [("of", 0, 200), ("the", 200, 400)]


@pytest.mark.parametrize(
    ("phones", "expected", "counts"),
    [
        (["ʌ", "v", "ð", "ə"], [["ɒ", "v"], ["ð", "iː"]], [2, 2]),
        (["f", "ɔː", "ɹ", "ə"], [["f", "ɔː"], ["eɪ"]], [3, 1]),  # linking r
        (["aɪ", "m"], [["aɪ"], ["æ", "m"]], [1, 1]),
        (["t", "ə", "b", "iː"], [["t", "uː"], ["b", "iː"]], [2, 2]),
    ],
)
def test_split_phones(phones, expected, counts):
    assert split_phones(phones, expected) == counts

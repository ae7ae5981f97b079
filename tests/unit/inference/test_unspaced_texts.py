"""Texts without spaces: words are letters there, and subtitles are cut at their times."""

from dataclasses import replace

import pytest

from speechmm.alignments import Alignment, Segment, group_words
from speechmm.alignments.ctm import ctm_lines
from speechmm.alignments.scripts import clusters, columns, pieces, written_words
from speechmm.alignments.subtitle_files import read_subtitles
from speechmm.alignments.subtitles import format_ass, format_srt
from speechmm.alignments.word_pieces import cut_unspaced, cut_word, joined_parts, text_of
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.transcriber import (
    ChunkTranscript,
    Transcriber,
    _one_after_another,
)
from speechmm.models.bundle import Bundle
from speechmm.text.tokenizer import Tokenizer

CHINESE = dict(zip("abcdefgh", "我们今天去图书馆", strict=True))


def in_chinese(text: str) -> str:
    return "".join(CHINESE.get(letter, letter) for letter in text)


@pytest.fixture
def chinese_bundle(tone_bundle: Bundle) -> Bundle:
    """The bundle of tones, whose letters are Chinese."""
    own = tone_bundle.tokenizer
    named = [CHINESE.get(piece, piece) for piece in own.pieces]
    tokenizer = Tokenizer(
        kind="char", normalizer="multilingual", language=own.language, pieces=named
    )
    return replace(tone_bundle, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("我们今天", ["我", "们", "今", "天"]),
        ("我们，今天。", ["我", "们，", "今", "天。"]),
        ("「今日」は", ["「今", "日」", "は"]),
        ("用iPhone手机", ["用", "iPhone", "手", "机"]),
        ("น้ำแข็ง", ["น้ำ", "แข็", "ง"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("ラーメン", ["ラ", "ー", "メ", "ン"]),
        ("hello", ["hello"]),
        ("안녕하세요", ["안녕하세요"]),
        ("don't", ["don't"]),
    ],
)
def test_pieces_of_words(word: str, expected: list[str]) -> None:
    assert pieces(word) == expected
    assert "".join(clusters(word)) == word
    assert written_words(f"{word} {word}") == expected * 2


def test_a_word_is_cut_where_its_letters_begin() -> None:
    word = Segment(
        label="我们，今", start=1.0, end=2.0, confidence=0.5, letter_starts=(0.0, 0.1, 0.7)
    )
    found = cut_unspaced([word])
    assert [one.label for one in found] == ["我", "们，", "今"]
    assert [one.start for one in found] == pytest.approx([1.0, 1.1, 1.7])
    assert [one.end for one in found] == pytest.approx([1.1, 1.7, 2.0])
    assert [one.glued for one in found] == [False, True, True]
    assert {one.confidence for one in found} == {0.5}
    equal = cut_word(replace(word, letter_starts=()), ["我", "们，", "今"])
    assert [one.end for one in equal] == pytest.approx([4 / 3, 5 / 3, 2.0])


def test_align_writes_letters(chinese_bundle: Bundle, speak) -> None:
    speech = speak("abc hde", pauses=[0.4])
    found = Aligner(chinese_bundle).align(speech.waveform, in_chinese("abc， hde。"))
    assert [word.label for word in found.words] == ["我", "们", "今，", "馆", "天", "去。"]
    assert [word.glued for word in found.words] == [False, True, True, False, True, True]
    assert [one.label for one in found.units["char"]] == list("我们今馆天去")
    for word, letter in zip(found.words, found.units["char"], strict=True):
        assert word.start == pytest.approx(letter.start, abs=1e-6)
    assert found.words[0].start == pytest.approx(0.3, abs=0.02)
    assert found.words[3].start == pytest.approx(1.3, abs=0.02)
    assert found.words[-1].end == pytest.approx(1.9, abs=0.02)
    assert [line.split()[4] for line in ctm_lines(found)][:2] == ["我", "们"]


def test_transcribe_writes_letters_and_one_text(chinese_bundle: Bundle, speak) -> None:
    speech = speak("abc hde", pauses=[0.4])
    options = SearchOptions(decoder="ctc")
    found = Transcriber(chinese_bundle, options=options).transcribe(speech.waveform)
    assert found.text == in_chinese("abc hde")
    assert [word.label for word in found.words] == list("我们今馆天去")
    starts = [word.start for word in found.words]
    assert starts == pytest.approx([0.3, 0.5, 0.7, 1.3, 1.5, 1.7], abs=0.03)
    (cue,) = group_words(found.words)
    assert cue.label == in_chinese("abc hde")  # the space that the model wrote stays


def word(label: str, start: float = 0.0, **more) -> Segment:
    return Segment(label=label, start=start, end=start + 1.0, **more)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["今天天气很", "好我们出去"], "今天天气很好我们出去"),
        (["อากาศ", "", "ดี มาก"], "อากาศดี มาก"),  # the space that the model wrote stays
        (["我们，", "今天"], "我们，今天"),
        (["我们。", "「今天"], "我们。「今天"),
        (["用iPhone", "手机"], "用iPhone 手机"),
        (["我们", "go home", "今天"], "我们 go home 今天"),
        (["안녕", "하세요"], "안녕 하세요"),
        (["go", "home"], "go home"),
        (["", "今天"], "今天"),
        ([], ""),
    ],
)
def test_parts_are_joined_without_a_space_where_none_is_written(parts, expected) -> None:
    found = joined_parts([word(label) for label in part.split()] for part in parts)
    assert text_of(found) == expected
    assert [one.glued for one in found[:1]] == [False] * len(found[:1])
    assert text_of(cut_unspaced(found)) == expected


@pytest.mark.parametrize("word_times", [True, False])
def test_chunks_of_a_long_recording_are_joined_like_words(
    chinese_bundle: Bundle, speak, word_times, monkeypatch
) -> None:
    """Twelve letters in a row, and no chunk holds them all."""
    options = SearchOptions(decoder="ctc", speech_gate=False)
    transcriber = Transcriber(chinese_bundle, options=options, word_times=word_times)
    transcriber.chunk_seconds = 1.3, 0.6
    said = speak("abcdefghabcd", lead=0.1, pauses=[0.1]).waveform
    found = transcriber.transcribe(said)
    assert " " not in found.text and len(found.text) >= 12
    assert [one.label for one in found.words] == (list(found.text) if word_times else [])
    assert [one.glued for one in found.words] == (
        [False] + [True] * (len(found.text) - 1)
    ) * word_times
    if word_times:
        (cue,) = group_words(found.words)
        assert cue.label == found.text


def test_parts_of_a_chunk_in_which_anybody_speaks_are_joined_like_words() -> None:
    said = [
        ChunkTranscript(hypotheses=[], token_log_probs=[-1.0], words=[word(label)])
        for label in ("今天天气很", "好我们出去")
    ]
    found = _one_after_another([(0.5, said[0]), (2.0, said[1])])
    assert [(one.start, one.glued) for one in found.words] == [(0.5, False), (2.0, True)]


def letters(text: str, seconds: float) -> Segment:
    share = seconds / len(text)
    starts = tuple(share * at for at in range(len(text)))
    return Segment(label=text, start=0.0, end=seconds, letter_starts=starts)


@pytest.mark.parametrize(
    ("text", "widest"),
    [
        ("turnontheradiointhegardenplease" * 5, 42),
        ("我们今天去图书馆" * 10, 42),
        ("อากาศดี" * 12, 42),
    ],
)
def test_subtitles_keep_their_limits(tmp_path, text: str, widest: int) -> None:
    word = letters(text, 24.0)
    cues = group_words([word])
    assert "".join(cue.label for cue in cues) == text
    assert len(cues) >= 4
    for cue in cues:
        assert 0 < cue.end - cue.start <= 7.01
        assert text.count(cue.label) and cue.start == pytest.approx(
            24.0 * sum(len(one.label) for one in cues[: cues.index(cue)]) / len(text), abs=0.2
        )
    alignment = Alignment(id="a", duration=24.0, units={"word": [word]})
    for block in format_srt(cues).split("\n\n"):
        lines = block.strip().splitlines()[2:]
        assert 1 <= len(lines) <= 2 and max(map(columns, lines)) <= widest
    (tmp_path / "a.ass").write_text(format_ass(alignment), "utf-8")
    shown = read_subtitles(tmp_path / "a.ass")
    assert [cue.label for cue in shown] == [cue.label for cue in cues]


def test_a_slow_short_word_stays_whole() -> None:
    (cue,) = group_words([Segment(label="so", start=0.0, end=9.0)])
    assert cue.label == "so"


def test_sentences_and_pauses_end_cues() -> None:
    word = Segment(
        label="我们去。今天去",
        start=0.0,
        end=4.0,
        letter_starts=(0.0, 0.2, 0.4, 2.0, 2.2, 2.4),
    )
    assert [cue.label for cue in group_words([word])] == ["我们去。", "今天去"]


@pytest.mark.parametrize("mark", [*range(0x2B0, 0x2EA), *range(0x2EC, 0x370), ord("·")])
def test_a_mark_of_any_script_cuts_no_word(mark: int) -> None:
    """Unicode 16 lists the dot below among the signs of Japanese, and many marks in several scripts."""
    word = f"pa{chr(mark)}ta"
    assert pieces(word) == written_words(word) == [word]

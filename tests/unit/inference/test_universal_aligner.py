"""The aligner that ships, by the command, on voices it has not learned from."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile

import speechmm
from speechmm.alignments.jsonl import read_jsonl
from speechmm.cli.main import main
from speechmm.data.corpora.synth.voices import Order, Speaker, Spoken, make_speaker, speak
from speechmm.errors import AlignmentError
from speechmm.inference.alignment.aligner_folder import UNIVERSAL, load_corpus_aligner

TEXTS = {
    "de": "Guten Morgen, wir gehen heute zusammen ins Museum",
    "sw": "karibu sana nyumbani kwetu leo jioni",
    "hi": "नमस्ते आप कैसे हैं",
    "ru": "сегодня очень хорошая погода",
}
LIMIT_MS = 30.0
"""Of the median of word edges: half of what a person needs to say a short vowel."""


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Spoken]:
    """A sentence of each language, by a voice of the test set, with its text beside it."""
    folder = tmp_path_factory.mktemp("languages")
    found = {}
    for language, text in TEXTS.items():
        speaker: Speaker = make_speaker(language, "paul", Random(language))
        path = folder / language / "said.wav"
        path.parent.mkdir()
        found[language] = speak(
            Order(id=language, text=text, speaker=speaker, path=path, seed=language)
        )
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return found


def align(spoken: Spoken, out: Path, *flags: str) -> list[float]:
    """Errors of word edges in ms, as the command places them."""
    folder = str(spoken.order.path.parent)
    assert main(["align", folder, "--format", "jsonl", "--out", str(out), *flags]) == 0
    (found,) = read_jsonl(out)
    words = found.units["word"]
    assert [one.label for one in words] == spoken.order.text.split()
    return [
        1000 * abs(error)
        for one, true in zip(words, spoken.words, strict=True)
        for error in (one.start - true.start, one.end - true.end)
    ]


@pytest.mark.parametrize("language", TEXTS)
def test_words_of_a_language_are_placed_without_a_model(
    language: str, spoken: dict[str, Spoken], tmp_path: Path
) -> None:
    errors = align(spoken[language], tmp_path / "out.jsonl", "--language", language)
    assert np.median(errors) < LIMIT_MS


def test_where_no_language_is_named_the_script_decides_and_that_is_said(
    spoken: dict[str, Spoken], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert np.median(align(spoken["ru"], tmp_path / "out.jsonl")) < LIMIT_MS
    assert "texts are pronounced as ru (1); --language VOICE" in capsys.readouterr().err
    assert np.median(align(spoken["de"], tmp_path / "out.jsonl")) < 2 * LIMIT_MS
    assert "pronounced as la (1)" in capsys.readouterr().err


def test_strings_of_phones_need_no_language(spoken: dict[str, Spoken], tmp_path: Path) -> None:
    said = spoken["sw"]
    phones = " ".join(one.label for one in said.phones)
    folder = str(said.order.path)
    out = tmp_path / "out.jsonl"
    assert main(["align", folder, "--text", phones, "--format", "jsonl", "--out", str(out)]) == 0
    words = read_jsonl(out)[0].units["word"]
    assert [one.label for one in words] == [one.label for one in said.phones]
    errors = [
        1000 * abs(one.start - true.start) for one, true in zip(words, said.phones, strict=True)
    ]
    assert np.median(errors) < LIMIT_MS


def test_a_lexicon_pronounces_what_it_lists_and_the_language_the_rest(
    spoken: dict[str, Spoken], tmp_path: Path
) -> None:
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("morgen m ɔ ɾ ɡ ə n\nmorgen m ɔ ʁ ŋ\n", encoding="utf-8")
    flags = ("--language", "de", "--lexicon", str(lexicon))
    assert np.median(align(spoken["de"], tmp_path / "out.jsonl", *flags)) < LIMIT_MS
    row = json.loads((tmp_path / "out.jsonl").read_text())
    labels = [one["label"] for one in row["units"]["phone"]]
    assert "mɔɾɡən" in "".join(labels) or "mɔʁŋ" in "".join(labels)


def test_python_places_files_and_samples_alike(spoken: dict[str, Spoken]) -> None:
    said = spoken["sw"].order
    aligner = speechmm.load_aligner(language="sw")
    samples, rate = soundfile.read(said.path)
    from_file = aligner.align(said.path, said.text)
    from_samples = aligner.align(samples, said.text, sample_rate=rate)
    assert [one.label for one in from_file.words] == said.text.split()
    assert [one.start for one in from_samples.words] == [one.start for one in from_file.words]
    assert not from_file.flags
    other = aligner.align(said.path, "wanafunzi wengi walisoma vitabu vipya shuleni")
    assert other.flags == (f"wrong_transcript: 0.00-{other.duration:.2f} s",)
    with pytest.raises(AlignmentError, match="text: found int"):
        aligner.align(said.path, 3)


def test_a_search_that_memory_cannot_hold_is_refused(
    spoken: dict[str, Spoken], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = spoken["sw"].order
    monkeypatch.setattr("speechmm.inference.alignment.viterbi.MEMORY_LIMIT_BYTES", 1000)
    with pytest.raises(AlignmentError, match="GiB to align; expected at most"):
        speechmm.load_aligner(language="sw").align(said.path, said.text)


def test_a_text_that_is_not_said_is_flagged(
    spoken: dict[str, Spoken], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = spoken["de"].order
    wrong = "Zwölf blaue Lastwagen fahren durch den Wald hinauf"
    flags = ("--language", "de", "--format", "jsonl", "--out", str(tmp_path / "out.jsonl"))
    assert main(["align", str(said.path), "--text", wrong, *flags]) == 3
    assert "wrong_transcript: 0.00-" in capsys.readouterr().err
    unsure = read_jsonl(tmp_path / "out.jsonl")[0].confidence
    assert main(["align", str(said.path), "--text", said.text, *flags]) == 0
    assert read_jsonl(tmp_path / "out.jsonl")[0].confidence > 2 * unsure


def test_a_voice_that_is_not_there_is_refused(
    spoken: dict[str, Spoken], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(spoken["de"].order.path.parent)
    assert main(["align", folder, "--language", "xx", "--out", str(tmp_path / "out")]) == 2
    assert "--language: found 'xx'" in capsys.readouterr().err


def test_it_is_small_and_knows_the_phones_of_many_languages() -> None:
    assert sum(path.stat().st_size for path in UNIVERSAL.iterdir()) < 8e6
    units = load_corpus_aligner(UNIVERSAL).units
    assert units.shared
    for phone in "pbtdkɡmnŋfvszʃʒhxlrjwaeiouəɛɔɪʊ":
        assert units.place(phone) is not None
    assert units.place("t͡ʃʰ") is not None
    assert units.place("ǃ") is not None


MANY = (
    "the door was open", "seven green bottles", "she reads a long letter", "where is my brother",
    "snow fell all night", "put it on the table", "a quiet street in town", "nobody knows the answer",
    "he laughed at the joke", "two tickets please", "under the old bridge", "music makes me happy",
)  # fmt: skip


def test_a_list_of_texts_that_is_shifted_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all texts are wrong none stands out: they are compared with those of others."""
    speaker = make_speaker("en-us", "paul", Random("many"))
    for number, text in enumerate(MANY):
        path = tmp_path / "said" / f"{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        speak(Order(id=text, text=text, speaker=speaker, path=path, seed=text))
    for shift, code, flagged in ((0, 0, 0), (1, 3, len(MANY))):
        for number in range(len(MANY)):
            text = MANY[(number + shift) % len(MANY)]
            (tmp_path / "said" / f"{number:02d}.txt").write_text(text, encoding="utf-8")
        out = tmp_path / "out.jsonl"
        command = ["align", str(tmp_path / "said"), "--language", "en-us", "--format", "jsonl"]
        assert main([*command, "--out", str(out)]) == code
        assert ("texts: of 12 utterances tried, only" in capsys.readouterr().err) is bool(shift)
        assert sum(bool(one.flags) for one in read_jsonl(out)) == flagged

"""Names in many languages, spoken with the times of their phones."""

from pathlib import Path
from random import Random

import pytest
import soundfile

from speechmm.data.corpora import names
from speechmm.data.corpora.synth.voices import VARIANTS, Order, make_speaker, speak_all
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.text.phonemes import phonemize, voice_of


def test_every_language_says_its_own_names(tmp_path: Path) -> None:
    report = SkipReport()
    splits = names.prepare(tmp_path, report, train=3, dev=2, languages="de, sw")
    assert not report.items
    train, dev = splits["train"], splits["dev"]
    assert [len(train), len(dev)] == [6, 4]
    assert {cut.supervisions[0].language for cut in train} == {"de", "sw"}
    for cut in [*train, *dev]:
        spoken = cut.supervisions[0]
        known = set(names.names_of(spoken.language))
        assert spoken.text.split(", ")[0] in known or set(known) & set(_parts(spoken.text))
        words, phones = spoken.alignment["word"], spoken.alignment["phone"]
        assert [item.symbol for item in words] == spoken.text.split()
        assert 0.0 <= words[0].start == phones[0].start < phones[-1].end <= cut.duration
        samples, _ = soundfile.read(cut.recording.sources[0].source)
        inside = samples[int(words[0].start * 16000) : int(words[-1].end * 16000)]
        assert inside.std() > 3 * samples[: int(words[0].start * 16000) - 400].std()
        split = "dev" if cut in dev else "train"
        assert spoken.speaker.split("_")[1] in VARIANTS[split].split()


def _parts(text: str) -> list[str]:
    words = text.replace(",", "").split()
    return [" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]


def test_a_language_without_a_voice_or_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 'xx'; expected voices"):
        names.prepare(tmp_path, SkipReport(), languages="de,xx")
    with pytest.raises(ConfigError, match="found none"):
        names.prepare(tmp_path, SkipReport(), languages=" , ")
    with pytest.raises(ConfigError, match="--train"):
        names.prepare(tmp_path, SkipReport(), train=0)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_utterance_that_crashes_espeak_is_named_and_the_others_are_spoken(
    tmp_path: Path, num_workers: int
) -> None:
    """espeak-ng 1.52 ends its process on this Greenlandic text in this voice, at this speed."""
    rng = Random(0)
    texts = ["illu", "marsi, Ålandi", "nuna"]
    orders = [
        Order(
            id=str(number),
            text=text,
            speaker=make_speaker("kl", "steph", rng),
            path=tmp_path / f"{number}.wav",
            seed=str(number),
        )
        for number, text in enumerate(texts)
    ]
    spoken = list(speak_all(orders, num_workers=num_workers))
    assert [one.order.id for one in spoken] == ["0", "1", "2"]
    assert [bool(one.words) for one in spoken] == [True, False, True]
    assert "crashed on 'marsi, Ålandi' in the voice kl+steph" in spoken[1].error
    assert (tmp_path / "2.wav").is_file()


def test_marks_of_another_language_are_no_phones() -> None:
    assert phonemize("Jeans", "de") == ["dʒ", "iː", "n", "z"]
    assert not any("(" in phone for word in ("Download", "cool") for phone in phonemize(word, "vi"))


def test_codes_of_languages_find_their_voices() -> None:
    found = {code: voice_of(code) for code in ("de", "DE", "en", "pt_BR", "sw-KE", "zh", "xx", "")}
    assert found == {
        "de": "de", "DE": "de", "en": "en-us", "pt_BR": "pt-br", "sw-KE": "sw", "zh": "cmn",
        "xx": None, "": None,
    }  # fmt: skip

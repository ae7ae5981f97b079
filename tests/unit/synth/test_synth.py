import numpy as np
import pytest
import soundfile

from speechmm.data.corpora.synth import corpus as synth
from speechmm.data.corpora.synth.voices import (
    ACCENTS,
    SAMPLE_RATE,
    SPEAKERS_PER_VARIANT,
    VARIANTS,
    make_speakers,
)
from speechmm.data.manifest import reference_alignment
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError

pytest.importorskip("espeakng_loader")

SIZES = {"train": 12, "dev": 3, "test": 5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    report = SkipReport()
    out = tmp_path_factory.mktemp("synth corpus")
    return synth.prepare(out, report, **SIZES, num_workers=1), report


def test_every_utterance_is_there_with_a_time_for_each_word(corpus):
    splits, report = corpus
    assert len(report) == 0
    assert {split: len(cuts) for split, cuts in splits.items()} == SIZES
    for cut in (cut for cuts in splits.values() for cut in cuts):
        alignment = reference_alignment(cut)
        text = cut.supervisions[0].text
        assert [word.label for word in alignment.words] == text.split()
        assert alignment.words[0].start > 0
        assert alignment.words[-1].end < cut.duration
        assert {phone.start for phone in alignment.units["phone"]} >= {
            word.start for word in alignment.words
        }


def test_speech_is_where_the_words_are(corpus):
    splits, _ = corpus
    for cut in splits["train"]:
        waveform, sample_rate = soundfile.read(cut.recording.sources[0].source)
        assert sample_rate == SAMPLE_RATE
        words = reference_alignment(cut).words
        first, last = (round(t * sample_rate) for t in (words[0].start, words[-1].end))
        margin = 30  # samples: the filter of the resampling rings
        speech = np.sqrt(np.mean(waveform[first:last] ** 2))
        before, after = waveform[: first - margin], waveform[last + margin :]
        assert np.sqrt(np.mean(before**2)) < speech / 10
        assert np.sqrt(np.mean(after**2)) < speech / 10
        assert 0.05 < np.abs(waveform).max() < 1


def test_no_voice_and_no_sentence_is_in_two_splits(corpus):
    splits, _ = corpus
    for what in ("text", "speaker"):
        found = [{getattr(cut.supervisions[0], what) for cut in cuts} for cuts in splits.values()]
        assert sum(map(len, found)) == len(set.union(*found))


def test_variants_exist_and_are_in_one_split():
    from speechmm.text.espeak.library import load_espeak

    named = [variant for split in VARIANTS.values() for variant in split.split()]
    assert len(named) == len(set(named)) >= 30
    assert set(named) <= set(load_espeak().variants)
    assert set(ACCENTS) <= set(load_espeak().languages)


def test_speakers_differ():
    speakers = make_speakers("train", 0)
    assert len({speaker.name for speaker in speakers}) == len(speakers)
    assert len(speakers) == SPEAKERS_PER_VARIANT * len(VARIANTS["train"].split())
    assert speakers == make_speakers("train", 0) != make_speakers("train", 1)


def test_the_samples_depend_on_the_seed_and_not_on_the_processes(corpus, tmp_path):
    splits, _ = corpus
    again = synth.prepare(tmp_path / "two", SkipReport(), **SIZES, num_workers=2)
    other = synth.prepare(tmp_path / "three", SkipReport(), train=3, dev=0, test=0, seed=1)
    for split, cuts in splits.items():
        for one, two in zip(cuts, again[split], strict=True):
            assert one.supervisions == two.supervisions
            paths = [cut.recording.sources[0].source for cut in (one, two)]
            assert np.array_equal(soundfile.read(paths[0])[0], soundfile.read(paths[1])[0])
    assert other["dev"] == other["test"] == []
    assert other["train"][0].supervisions[0].text != splits["train"][0].supervisions[0].text


def test_wrong_sizes_are_named(tmp_path):
    with pytest.raises(ConfigError, match="--dev: found -1; expected"):
        synth.prepare(tmp_path, SkipReport(), dev=-1)
    with pytest.raises(ConfigError, match="--train: found 0; expected"):
        synth.prepare(tmp_path, SkipReport(), train=0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        synth.prepare(tmp_path / "file", SkipReport(), **SIZES, num_workers=1)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", refuse)
    with pytest.raises(ConfigError, match=r"train-00000\.wav: cannot be written .*No space left"):
        synth.prepare(tmp_path, SkipReport(), train=1, dev=0, test=0, num_workers=1)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))

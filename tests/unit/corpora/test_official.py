"""Corpora with an official layout, as small copies and, where they are at hand, as they are."""

import pytest

from speechmm.data.corpora import an4, fsdd, kerstin, librispeech, ljspeech, yesno
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import audio_path
from speechmm.errors import ConfigError, ManifestError


def sizes(splits):
    return {split: len(cuts) for split, cuts in splits.items()}


def by_id(splits):
    return {cut.id: cut for cuts in splits.values() for cut in cuts}


def text_of(cut):
    return cut.supervisions[0].text


def speakers_of(cuts):
    return {cut.supervisions[0].speaker for cut in cuts}


def make_an4(root, record):
    (root / "etc").mkdir(parents=True)
    for part, folder, speakers in (
        ("train", "an4_clstk", ["mb", "fa", "fz"]),
        ("test", "an4test_clstk", ["mt"]),
    ):
        ids = [(s, f"an{i}-{s}-b") for s in speakers for i in range(101, 141)]
        (root / "etc" / f"an4_{part}.fileids").write_text(
            "".join(f"{folder}/{s}/{name}\n" for s, name in ids)
        )
        (root / "etc" / f"an4_{part}.transcription").write_text(
            "".join(f"<s> GO {name[2:5]} </s> ({name})\n" for _, name in ids)
        )
        for s, name in ids:
            record(root / "wav" / folder / s / f"{name}.sph", 0.05)


def test_an4_in_the_official_layout(tmp_path, record):
    make_an4(tmp_path / "an4", record)
    report = SkipReport()
    splits = an4.prepare(tmp_path, report)
    assert sizes(splits) == {"train": 20, "dev": 100, "test": 40}
    assert not report.items
    cut = by_id(splits)["an105-fa-b"]
    assert text_of(cut) == "GO 105"
    assert speakers_of([cut]) == {"fa"}
    assert speakers_of(splits["train"]) == {"mb"}  # the last in the order of speakers


def test_an4_names_what_is_missing(tmp_path, record):
    make_an4(tmp_path, record)
    (tmp_path / "wav/an4test_clstk/mt/an101-mt-b.sph").unlink()
    with (tmp_path / "etc/an4_test.fileids").open("a") as file:
        file.write("an4test_clstk/mt/an999-mt-b\n")
    with (tmp_path / "etc/an4_test.transcription").open("a") as file:
        file.write("NO FILE (an998-mt-b)\nno id at all\n")
    report = SkipReport()
    assert sizes(an4.prepare(tmp_path, report))["test"] == 39
    assert {item for item, _ in report.items} == {
        "an101-mt-b",
        "an999-mt-b",
        "an998-mt-b",
        "an4_test.transcription:42",
    }


@pytest.mark.parametrize("parser", [an4, fsdd, yesno, kerstin, ljspeech, librispeech])
def test_another_folder_is_refused(tmp_path, parser):
    with pytest.raises(ManifestError, match="expected"):
        parser.prepare(tmp_path, SkipReport())


def test_fsdd(tmp_path, record_all):
    names = " ".join(f"{d}_{s}_{i}.wav" for d in (0, 7) for s in ("ann", "bob") for i in (0, 5, 12))
    record_all(tmp_path / "recordings", names + " readme.wav")
    report = SkipReport()
    splits = fsdd.prepare(tmp_path, report)
    assert sizes(splits) == {"train": 4, "dev": 4, "test": 4}
    assert text_of(by_id(splits)["7_bob_12"]) == "seven"
    assert [item for item, _ in report.items] == ["readme.wav"]
    splits = fsdd.prepare(tmp_path / "recordings", SkipReport(), leave_out="bob")
    assert sizes(splits) == {"train": 4, "dev": 2, "test": 6}
    assert speakers_of(splits["test"]) == {"bob"}
    assert speakers_of(splits["train"] + splits["dev"]) == {"ann"}
    with pytest.raises(ConfigError, match="expected one of ann, bob"):
        fsdd.prepare(tmp_path, SkipReport(), leave_out="cid")


def test_yesno(tmp_path, record_all):
    names = [f"{i:05b}" for i in range(20)]
    record_all(tmp_path / "waves_yesno", " ".join("_".join(name) + ".wav" for name in names))
    splits = yesno.prepare(tmp_path, SkipReport())
    assert sizes(splits) == {"train": 9, "dev": 1, "test": 10}
    assert text_of(by_id(splits)["0_0_1_0_1"]) == "NO NO YES NO YES"
    assert max(cut.id for cut in splits["test"]) < min(cut.id for cut in splits["train"])


def make_ljspeech(root, record, count=20):
    rows = []
    for i in range(count):
        record(root / "wavs" / f"LJ001-{i:04d}.wav", rate=22050)
        rows.append(f'LJ001-{i:04d}|In {i}, "so"|In number {i}, "so"')
    (root / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_ljspeech(tmp_path, record):
    make_ljspeech(tmp_path / "LJSpeech-1.1", record)
    splits = ljspeech.prepare(tmp_path, SkipReport())
    assert sizes(splits) == {"train": 18, "dev": 1, "test": 1}
    cut = by_id(splits)["LJ001-0019"]
    assert cut in splits["test"]
    assert text_of(cut) == 'In number 19, "so"'
    assert audio_path(cut) == tmp_path / "LJSpeech-1.1" / "wavs" / "LJ001-0019.wav"
    assert cut.sampling_rate == 22050


def test_ljspeech_with_bad_items(tmp_path, record):
    make_ljspeech(tmp_path, record)
    (tmp_path / "wavs" / "LJ001-0003.wav").write_bytes(b"")
    (tmp_path / "wavs" / "LJ001-0004.wav").unlink()
    with (tmp_path / "metadata.csv").open("a") as file:
        file.write("LJ001-0099|two fields\nLJ001-0001|again|again\n")
    report = SkipReport()
    splits = ljspeech.prepare(tmp_path, report)
    assert sum(sizes(splits).values()) == 18
    assert {item for item, _ in report.items} == {
        "LJ001-0003",
        "LJ001-0004",
        "metadata.csv:21",
        "LJ001-0001",
    }


def make_librispeech(root, record, parts, suffix="flac"):
    for n, part in enumerate(parts):
        for speaker in (f"{n}1", f"{n}2", f"{n}3"):
            chapter = root / part / speaker / "7"
            names = [f"{speaker}-7-{i:04d}" for i in range(2)]
            for name in names:
                record(chapter / f"{name}.{suffix}")
            (chapter / f"{speaker}-7.trans.txt").write_text(
                "".join(f"{name} SOME WORDS\n" for name in names)
            )


def test_librispeech(tmp_path, record):
    parts = ["train-clean-100", "train-other-500", "dev-clean", "dev-other", "test-clean"]
    make_librispeech(tmp_path / "LibriSpeech", record, parts)
    (tmp_path / "LibriSpeech/train-clean-100/01/7/01-7.alignment.txt").write_text(
        '01-7-0000 ",SOME,,WORDS," "0.05,0.1,0.15,0.25,0.3"\n'
    )
    splits = librispeech.prepare(tmp_path, SkipReport())
    assert sizes(splits) == {"train": 12, "dev": 6, "test": 6, "dev-other": 6}
    cut = by_id(splits)["01-7-0000"]
    assert speakers_of([cut]) == {"01"}
    words = cut.supervisions[0].alignment["word"]
    assert [(w.symbol, w.start, w.duration) for w in words] == [
        ("SOME", 0.05, 0.05),
        ("WORDS", 0.15, 0.1),
    ]


@pytest.mark.parametrize("line", [b'01-7-0000 ",SOME" "x"\n', b"\xff\xfe\n", b"01-7-0000\n"])
def test_librispeech_with_damaged_times(tmp_path, record, line):
    make_librispeech(tmp_path, record, ["train-clean-5", "dev-clean-2"])
    (tmp_path / "train-clean-5/01/7/01-7.alignment.txt").write_bytes(line)
    report = SkipReport()
    assert sizes(librispeech.prepare(tmp_path, report))["train"] == 4
    assert [item for item, _ in report.items] == ["01-7.alignment.txt"]


def test_mini_librispeech(tmp_path, record):
    make_librispeech(tmp_path, record, ["train-clean-5", "dev-clean-2"])
    splits = librispeech.prepare(tmp_path, SkipReport())
    assert sizes(splits) == {"train": 4, "dev": 2, "test": 6}
    assert speakers_of(splits["train"]).isdisjoint(speakers_of(splits["dev"]))


@pytest.mark.parametrize("suffix", ["opus", "ogg", "wav", "mp3"])
def test_parts_of_librispeech_in_any_coding_and_with_any_names(tmp_path, record, suffix):
    make_librispeech(tmp_path, record, ["train-clean-5", "dev-4-speakers", "extra"], suffix)
    report = SkipReport()
    splits = librispeech.prepare(tmp_path, report)
    assert sizes(splits) == {"train": 4, "dev": 2, "test": 6}
    assert not report.items
    assert speakers_of(splits["test"]) == {"11", "12", "13"}
    assert speakers_of(splits["train"]).isdisjoint(speakers_of(splits["dev"]))
    assert audio_path(splits["test"][0]).suffix == f".{suffix}"
    assert report.remarks == [
        "left out: extra (no part's name: these begin with train-, dev-, test-)",
        "dev-4-speakers is the test, since there is no test part",
        "dev: the corpus has none, drawn from train by speaker",
    ]


def test_librispeech_without_dev_and_test(tmp_path, record):
    make_librispeech(tmp_path, record, ["train-a", "train-b"])
    report = SkipReport()
    splits = librispeech.prepare(tmp_path, report, dev=0.2, test=0.3)
    assert sizes(splits) == {"train": 6, "dev": 2, "test": 4}
    speakers = [speakers_of(cuts) for cuts in splits.values()]
    assert len(set.union(*speakers)) == sum(map(len, speakers))
    assert report.remarks == ["dev and test: the corpus has none, drawn from train by speaker"]


def test_librispeech_to_measure_alone(tmp_path, record):
    make_librispeech(tmp_path, record, ["test-other", "test-clean", "dev-other", "dev-clean"])
    splits = librispeech.prepare(tmp_path, SkipReport())
    assert sizes(splits) == dict.fromkeys(("dev", "test", "test-other", "dev-other"), 6)
    assert speakers_of(splits["test"]) == {"11", "12", "13"}
    with pytest.raises(ManifestError, match=r"found 7; .* Give the folder they lie in"):
        librispeech.prepare(tmp_path / "test-clean" / "11", SkipReport())


def test_librispeech_with_bad_items(tmp_path, record):
    make_librispeech(tmp_path, record, ["train-clean-5", "dev-clean", "test-clean"])
    chapter = tmp_path / "train-clean-5/01/7"
    (chapter / "01-7-0000.flac").write_bytes(b"no audio")
    (chapter / "01-7-0001.flac").unlink()
    with (chapter / "01-7.trans.txt").open("a") as file:
        file.write("01-7-0002\n")
    report = SkipReport()
    assert sizes(librispeech.prepare(tmp_path, report))["train"] == 4
    assert [item for item, _ in report.items] == ["01-7-0000", "01-7-0001", "01-7-0002"]


def test_kerstin(tmp_path, record_all):
    names = [f"de-{i:04d}" for i in range(20)]
    record_all(tmp_path / "wavs", " ".join(f"{name}.flac" for name in names))
    (tmp_path / "metadata.csv").write_text("".join(f"{n}|Größe | {n}\n" for n in names), "utf-8")
    splits = kerstin.prepare(tmp_path, SkipReport())
    assert sizes(splits) == {"train": 16, "dev": 2, "test": 2}
    assert text_of(splits["test"][1]) == "Größe | de-0019"


REAL = {
    an4: {"train": 848, "dev": 100, "test": 130},
    fsdd: {"train": 2400, "dev": 300, "test": 300},
    yesno: {"train": 25, "dev": 5, "test": 30},
    kerstin: {"train": 1174, "dev": 100, "test": 100},
}


@pytest.mark.parametrize("parser", REAL, ids=lambda parser: parser.__name__.rpartition(".")[2])
def test_real_corpora(corpora, parser):
    root = corpora / parser.__name__.rpartition(".")[2]
    report = SkipReport()
    splits = parser.prepare(root, report, check="header")
    assert sizes(splits) == REAL[parser]
    assert not report.items
    ids = [cut.id for cuts in splits.values() for cut in cuts]
    assert len(set(ids)) == len(ids)

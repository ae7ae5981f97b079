"""`prepare folder`: the layouts people have, and what is said about what cannot be used."""

import unicodedata
from pathlib import Path

import pytest

from speechmm.data.corpora import folder
from speechmm.data.skips import SkipReport
from speechmm.data.splits import require_utterances
from speechmm.data.waveforms import audio_path
from speechmm.errors import ManifestError

TEN = [f"u{i:02d}" for i in range(10)]


def prepare(root: Path, **options):
    """All cuts by id, the cuts by split, and the report."""
    report = SkipReport()
    splits = folder.prepare(root, report, **options)
    return {cut.id: cut for cuts in splits.values() for cut in cuts}, splits, report


def text_of(cut):
    return cut.supervisions[0].text


def speaker_of(cut):
    return cut.supervisions[0].speaker


def ids(splits):
    return {split: sorted(cut.id for cut in cuts) for split, cuts in splits.items()}


def test_text_files_beside_recordings(tmp_path, record):
    for name, audio, text in (
        ("a", ".wav", ".txt"),
        ("b c", ".WAV", ".lab"),
        ("ü'é\"", ".flac", ".TXT"),
        ("d", ".mp3", ".txt"),
    ):
        record(tmp_path / "in here" / f"{name}{audio}", 0.5)
        (tmp_path / "in here" / f"{name}{text}").write_text(f"\ufeffsays {name}\r\nand more\r\n")
    (tmp_path / "README.txt").write_text("about this")
    (tmp_path / "in here" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "in here" / "._a.wav").write_bytes(b"\0")
    cuts, _, report = prepare(tmp_path)
    assert {name: text_of(cut) for name, cut in cuts.items()} == {
        "a": "says a and more",
        "b c": "says b c and more",
        "ü'é\"": "says ü'é\" and more",
        "d": "says d and more",
    }
    assert not report.items
    assert audio_path(cuts["b c"]) == tmp_path / "in here" / "b c.WAV"


def test_text_files_in_a_tree_of_their_own(tmp_path, record):
    for name in TEN:
        record(tmp_path / "wav" / name[:2] / f"{name}.wav")
        (tmp_path / "txt" / name[:2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "txt" / name[:2] / f"{name}.txt").write_text(f"text {name}")
    cuts, _, report = prepare(tmp_path)
    assert {text_of(cut) for cut in cuts.values()} == {f"text {name}" for name in TEN}
    assert not report.items


def test_same_names_in_folders_of_speakers(tmp_path, record):
    for speaker in ("ann", "bob", "cid", "dan"):
        for name in ("1", "2", "3"):
            record(tmp_path / "data" / speaker / f"{name}.wav")
            (tmp_path / "data" / speaker / f"{name}.txt").write_text(f"{speaker} says {name}")
    cuts, splits, _ = prepare(tmp_path)
    assert text_of(cuts["ann/1"]) == "ann says 1"
    assert speaker_of(cuts["bob/3"]) == "bob"
    speakers = [{speaker_of(cut) for cut in cuts} for cuts in splits.values()]
    assert sorted(len(names) for names in speakers) == [1, 1, 2]
    assert not (speakers[0] & speakers[1] or speakers[1] & speakers[2] or speakers[0] & speakers[2])
    _, splits, _ = prepare(tmp_path, speakers="none")
    assert all(speaker_of(cut) is None for cuts in splits.values() for cut in cuts)


def test_folders_named_after_splits(tmp_path, record):
    for split, name in (("Train", "a"), ("Train", "b"), ("valid", "c"), ("test", "d")):
        record(tmp_path / split / f"{name}.wav")
        (tmp_path / split / f"{name}.txt").write_text(name)
    _, splits, _ = prepare(tmp_path)
    assert ids(splits) == {"train": ["a", "b"], "dev": ["c"], "test": ["d"]}


def test_a_folder_beside_those_of_splits_is_trained_on(tmp_path, record):
    for split, name in (("train", "a"), ("extra", "b"), ("dev", "c"), ("test", "d"), ("", "e")):
        record(tmp_path / split / f"{name}.wav")
        (tmp_path / split / f"{name}.txt").write_text(name)
    _, splits, report = prepare(tmp_path)
    assert ids(splits) == {"train": ["a", "b", "e"], "dev": ["c"], "test": ["d"]}
    assert report.remarks == ["e.wav, extra: in no folder of a split, trained on"]


def test_what_cannot_be_used_is_named(tmp_path, record):
    for name in ("good1", "good2", "good3", "silent", "blank", "broken", "latin", "short"):
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(f"says {name}")
    (tmp_path / "silent.txt").unlink()
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "broken.wav").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("für\n".encode("latin-1"))
    record(tmp_path / "short.flac", 2.0)
    (tmp_path / "short.wav").unlink()
    data = (tmp_path / "short.flac").read_bytes()
    (tmp_path / "short.flac").write_bytes(data[: len(data) // 2])
    (tmp_path / "lonely.txt").write_text("no audio")
    cuts, _, report = prepare(tmp_path)
    assert sorted(cuts) == ["good1", "good2", "good3"]
    reasons = dict(report.items)
    assert "has no transcript" in reasons["silent.wav"]
    assert "transcript is empty" in reasons["blank"]
    assert "empty" in reasons["broken"]
    assert "latin.txt:1: byte 0xfc at position 2" in reasons["latin.wav"]
    assert "cut short" in reasons["short"]
    assert "no audio of this name" in reasons["lonely.txt"]
    assert len(reasons) == 6


def test_draws_are_stable_and_follow_the_seed(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(name)
    draws = [ids(prepare(tmp_path, seed=seed)[1]) for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert any(draw != draws[0] for draw in draws[2:])
    assert [len(draws[0][split]) for split in ("train", "dev", "test")] == [8, 1, 1]


@pytest.mark.parametrize(("count", "sizes"), [(3, [1, 1, 1]), (5, [3, 1, 1])])
def test_few_utterances(tmp_path, record, count, sizes):
    for name in TEN[:count]:
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(name)
    _, splits, _ = prepare(tmp_path)
    assert [len(splits[split]) for split in ("train", "dev", "test")] == sizes


def test_too_few_utterances_for_three_splits(tmp_path, record):
    for name in TEN[:2]:
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(name)
    _, splits, report = prepare(tmp_path)
    with pytest.raises(ManifestError, match=r"no usable utterance for (dev|test)"):
        require_utterances(splits, report, "here")
    _, splits, report = prepare(tmp_path, dev=0.0, test=0.0)
    assert ids(splits) == {"train": TEN[:2]}


TABLES = {
    "ljspeech": ("metadata.csv", "wavs/{}.wav", "{0}|Says, {0}!\n"),
    "ljspeech, 3 columns": ("metadata.csv", "wavs/{}.wav", "{0}|Says 1 {0}|Says one {0}\n"),
    "path and text": ("metadata.csv", "wavs/{}.wav", "wavs/{0}.wav|Says, {0}!\n"),
    "own path in front": ("metadata.csv", "wavs/{}.wav", "/home/me/tts/wavs/{0}.wav|Says {0}\n"),
    "windows": ("transcripts.csv", "wavs/{}.wav", "wavs\\{0}.wav,Says {0}\r\n"),
    "commas in the text": ("metadata.csv", "audio/{}.WAV", "{0}.wav,Says, {0}, twice\n"),
    "quotes": ("metadata.csv", "audio/{}.WAV", '"{0}.wav","Says, ""{0}"""\n'),
    "semicolons": ("any name.csv", "{}.flac", "{0};Says {0}\n"),
    "tabs": ("transcripts.txt", "x/y/{}.flac", "{0}\tSays {0}\n"),
    "blanks": ("transcripts.txt", "x/y/{}.flac", "{0} Says {0} today\n"),
    "text first": ("list.tsv", "{}.ogg", 'Says "{0}" today\t{0}.ogg\n'),
    "other suffix": ("validated.tsv", "clips/{}.wav", "{0}.mp3\tSays {0}\n"),
}


@pytest.mark.parametrize("layout", TABLES, ids=list(TABLES))
def test_tables_without_header(tmp_path, record, layout):
    table, audio, line = TABLES[layout]
    for name in TEN:
        record(tmp_path / audio.format(name))
    lines = "".join(line.format(name) for name in TEN)
    (tmp_path / table).write_bytes(lines.encode("utf-8-sig"))
    cuts, _, report = prepare(tmp_path)
    assert sorted(cuts) == TEN
    assert not report.items
    for name, cut in cuts.items():
        assert audio_path(cut) == tmp_path / audio.format(name)
        assert text_of(cut).lower().startswith("says")
        assert name in text_of(cut)


def test_ljspeech_table_gives_the_normalized_text(tmp_path, record):
    for name in TEN:
        record(tmp_path / "wavs" / f"{name}.wav")
    rows = (f"{name}|It is {i}.|It is number {i}." for i, name in enumerate(TEN))
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    cuts, _, _ = prepare(tmp_path)
    assert text_of(cuts["u03"]) == "It is number 3."


def test_table_with_speakers_and_no_header(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
    rows = (f"{name}.wav|s{i % 3}|text number {i}" for i, name in enumerate(TEN))
    (tmp_path / "list.csv").write_text("\n".join(rows))
    cuts, splits, _ = prepare(tmp_path)
    assert speaker_of(cuts["u04"]) == "s1"
    assert text_of(cuts["u04"]) == "text number 4"
    assert len({speaker_of(cut) for cut in splits["test"]}) == 1


def test_one_word_texts_without_header(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
    (tmp_path / "list.csv").write_text(
        "".join(f"{n},{'yes' if i % 2 else 'no'}\n" for i, n in enumerate(TEN))
    )
    cuts, _, _ = prepare(tmp_path)
    assert text_of(cuts["u03"]) == "yes"
    assert speaker_of(cuts["u03"]) is None


def test_common_voice(tmp_path, record):
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tlocale\tsegment\n"
    rows = []
    for i, name in enumerate(TEN):
        record(tmp_path / "clips" / f"{name}.mp3", 0.5)
        rows.append(f'c{i % 4}\t{name}.mp3\tx{i}\t"Well," he said {i}.\t2\t\tde\t\n')
    record(tmp_path / "clips" / "rejected.mp3", 0.5)
    (tmp_path / "validated.tsv").write_text(header + "".join(rows))
    (tmp_path / "invalidated.tsv").write_text(header)
    (tmp_path / "clip_durations.tsv").write_text("clip\tduration[ms]\n")
    cuts, splits, report = prepare(tmp_path)
    assert text_of(cuts["u05"]) == '"Well," he said 5.'
    assert speaker_of(cuts["u05"]) == "c1"
    assert cuts["u05"].supervisions[0].language == "de"
    assert {len(cuts) for cuts in splits.values()} <= {2, 3, 5, 6}
    assert not report.items
    for split, rows_of in (("train", rows[:6]), ("dev", rows[6:8]), ("test", rows[8:])):
        (tmp_path / f"{split}.tsv").write_text(header + "".join(rows_of))
    _, splits, _ = prepare(tmp_path)
    assert ids(splits) == {"train": TEN[:6], "dev": TEN[6:8], "test": TEN[8:]}


def test_header_with_split_speaker_and_more(tmp_path, record):
    rows = ["Speaker-ID,Duration,ID,Split,Transcription,File Name"]
    for i, name in enumerate(TEN):
        record(tmp_path / "a b" / f"f{name}.wav")
        split = ("Train", "validation", "TEST")[min(i // 4, 2)]
        rows.append(f's{i},0.3,{name},{split},"Hello, {i}",a b/f{name}.wav')
    (tmp_path / "metadata.csv").write_text("\r\n".join(rows) + "\r\n")
    cuts, splits, _ = prepare(tmp_path)
    assert ids(splits) == {"train": TEN[:4], "dev": TEN[4:8], "test": TEN[8:]}
    assert text_of(cuts["u01"]) == "Hello, 1"
    assert audio_path(cuts["u01"]) == tmp_path / "a b" / "fu01.wav"


def test_table_elsewhere_and_ids_of_nested_files(tmp_path, record):
    root = tmp_path / "corpus"
    for speaker in ("ann", "bob", "cid"):
        for name in ("1", "2"):
            record(root / "rec" / speaker / f"{name}.wav")
    table = tmp_path / "tables" / "mine.csv"
    table.parent.mkdir()
    lines = [f"{s}/{n}.wav,{s} {n}" for s in ("ann", "bob", "cid") for n in "12"]
    table.write_text("file,text\n" + "\n".join(lines))
    cuts, _, report = prepare(root, transcripts=table)
    assert text_of(cuts["bob/2"]) == "bob 2"
    assert speaker_of(cuts["bob/2"]) == "bob"
    assert not report.items


def test_missing_audio_is_never_replaced_by_a_file_of_the_same_name(tmp_path, record):
    for name in ("1", "2", "3"):
        record(tmp_path / "bob" / f"{name}.wav")
    lines = [f"{s}/{n}.wav,{s} {n}" for s in ("ann", "bob") for n in "123"]
    (tmp_path / "metadata.csv").write_text("path,text\n" + "\n".join(lines))
    cuts, _, report = prepare(tmp_path)
    assert {text_of(cut) for cut in cuts.values()} == {"bob 1", "bob 2", "bob 3"}
    assert len(report.items) == 3


def test_ambiguous_names_are_told_apart_by_speaker_or_skipped(tmp_path, record):
    for speaker in ("ann", "bob", "cid"):
        record(tmp_path / speaker / "1.wav")
    (tmp_path / "metadata.csv").write_text("id,speaker,text\n1,ann,hello\n1,,who\n")
    cuts, _, report = prepare(tmp_path)
    assert [audio_path(cut).parent.name for cut in cuts.values()] == ["ann"]
    assert "may be any of 3 files" in report.items[0][1]


def test_decomposed_names(tmp_path, record):
    for name in TEN:
        record(tmp_path / unicodedata.normalize("NFD", f"Grüße-{name}.wav"))
    rows = (f"Grüße-{name}|Guten Tag {name}" for name in TEN)
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    cuts, _, report = prepare(tmp_path)
    assert len(cuts) == 10
    assert not report.items


def test_bad_rows_are_named_by_line(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
    (tmp_path / "metadata.csv").write_text(
        "path,text,split\n"
        "u00.wav,zero,train\nu01.wav\nu02.wav,two,nowhere\nu03.wav,,train\n"
        "u00.wav,again,train\ngone.wav,missing,train\nu04.wav,four,dev\nu05.wav,five,test\n"
    )
    cuts, _, report = prepare(tmp_path)
    assert sorted(cuts) == ["u00", "u04", "u05"]
    assert text_of(cuts["u00"]) == "zero"
    reasons = dict(report.items)
    assert "found 1 columns; expected 3" in reasons["metadata.csv:3"]
    assert "found the split 'nowhere'" in reasons["metadata.csv:4"]
    assert "transcript is empty" in reasons["u03"]
    assert "is taken by" in reasons["u00"]
    assert "no such file" in reasons["gone.wav"]
    assert len(reasons) == 5


def test_a_quote_that_is_never_closed_loses_no_line(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
    lines = [f'{name}.wav,"says {name}' for name in TEN]
    (tmp_path / "metadata.csv").write_text("path,text\n" + "\n".join(lines))
    cuts, _, _ = prepare(tmp_path)
    assert text_of(cuts["u09"]) == '"says u09'
    assert len(cuts) == 10


def test_segments_of_long_recordings(tmp_path, record):
    record(tmp_path / "long.wav", 3.0)
    (tmp_path / "metadata.csv").write_text(
        "path,start,end,text\nlong.wav,0,1,one\nlong.wav,1,2.5,two\nlong.wav,2.5,9,three\n"
        "long.wav,a,b,four\n"
    )
    cuts, _, report = prepare(tmp_path, dev=0.0, test=0.0)
    assert [(c.start, c.duration) for c in cuts.values()] == [(0.0, 1.0), (1.0, 1.5)]
    assert len(report.items) == 2


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("metadata.csv", b"path,text\na.wav,f\xfcr\n", r"metadata.csv:2: byte 0xfc at position 8"),
        ("metadata.csv", b"path,speaker\na.wav,bob\n", "expected one for the text"),
        ("metadata.csv", b"speaker,text\nbob,hello\n", "expected one for the recording"),
        ("metadata.csv", b"", "is empty"),
        ("metadata.csv", b"hello\nthere\n", "expected columns"),
        ("metadata.csv", b"a.wav|hello there|what else\n", "cannot tell which is the text"),
        ("other.json", b"{}", "found no transcripts"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, record, table, content, message):
    record(tmp_path / "a.wav")
    (tmp_path / table).write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        prepare(tmp_path)


def test_several_unknown_tables(tmp_path, record):
    record(tmp_path / "a.wav")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("a.wav,hello")
    with pytest.raises(ManifestError, match=r"found the tables one\.csv, two\.csv"):
        prepare(tmp_path)
    cuts, _, _ = prepare(tmp_path, transcripts=tmp_path / "two.csv", dev=0.0, test=0.0)
    assert sorted(cuts) == ["a"]


def test_tables_in_folders_of_splits(tmp_path, record):
    for split, names in (("train", "ab"), ("validation", "c"), ("test", "d")):
        for name in names:
            record(tmp_path / split / f"{name}.wav")
        rows = "".join(f"{name}.wav,text {name}\n" for name in names)
        (tmp_path / split / "metadata.csv").write_text("file_name,transcription\n" + rows)
    _, splits, _ = prepare(tmp_path)
    assert ids(splits) == {"train": ["a", "b"], "dev": ["c"], "test": ["d"]}


def test_utf16_table_of_a_spreadsheet(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
    text = "id\ttext\r\n" + "".join(f"{name}\tgrüß {name}\r\n" for name in TEN)
    (tmp_path / "metadata.tsv").write_bytes(text.encode("utf-16"))
    cuts, _, _ = prepare(tmp_path)
    assert text_of(cuts["u09"]) == "grüß u09"


def test_linked_folders_are_followed_once(tmp_path, record):
    for name in TEN:
        record(tmp_path / "real" / f"{name}.wav")
        (tmp_path / "real" / f"{name}.txt").write_text(name)
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "wavs").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(root)
    cuts, _, report = prepare(root)
    assert sorted(cuts) == TEN
    assert not report.items


def test_tables_of_splits_in_a_folder_of_their_own(tmp_path, record):
    for name in TEN:
        record(tmp_path / "audio" / f"{name}.wav")
    (tmp_path / "lists").mkdir()
    for split, names in (("train", TEN[:6]), ("val", TEN[6:8]), ("test", TEN[8:])):
        rows = "".join(f"audio/{name}.wav|text {name}\n" for name in names)
        (tmp_path / "lists" / f"my_{split}.txt").write_text(rows)
    _, splits, report = prepare(tmp_path)
    assert ids(splits) == {"train": TEN[:6], "dev": TEN[6:8], "test": TEN[8:]}
    assert not report.items


def test_lists_of_names_do_not_hide_text_files(tmp_path, record):
    for name in TEN:
        record(tmp_path / "audio" / f"{name}.wav")
        (tmp_path / "audio" / f"{name}.lab").write_text(name)
    (tmp_path / "train.txt").write_text("\n".join(TEN))
    cuts, _, report = prepare(tmp_path)
    assert sorted(cuts) == TEN
    assert not report.items


def test_missing_audio_changes_nothing_for_the_others(tmp_path, record):
    for speaker in ("ann", "bob", "cid"):
        for name in "12":
            record(tmp_path / "wavs" / speaker / f"{name}.wav")
    lines = [f"wavs/{s}/{n}.wav,{s} {n}" for s in ("ann", "bob", "cid") for n in "12"]
    (tmp_path / "metadata.csv").write_text("path,text\nnowhere.wav,x\n" + "\n".join(lines))
    cuts, _, report = prepare(tmp_path)
    assert speaker_of(cuts["bob/1"]) == "bob"
    assert [item for item, _ in report.items] == ["nowhere.wav"]


def test_a_table_named_as_seen_from_the_corpus(tmp_path, record):
    record(tmp_path / "a.wav")
    (tmp_path / "x.csv").write_text("a,hello there")
    cuts, _, _ = prepare(tmp_path, transcripts=Path("x.csv"), dev=0.0, test=0.0)
    assert text_of(cuts["a"]) == "hello there"


def test_file_names_that_are_not_utf8(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(name)
    for suffix in (".wav", ".txt"):
        old = tmp_path / f"u00{suffix}"
        old.rename(tmp_path / (b"f\xfcr".decode("utf-8", "surrogateescape") + suffix))
    cuts, _, report = prepare(tmp_path)
    assert sorted(cuts) == TEN[1:]
    assert "its name is not UTF-8" in report.items[0][1]


def test_two_formats_of_one_recording(tmp_path, record):
    for name in TEN:
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(name)
    record(tmp_path / "u00.flac")
    (tmp_path / "u00.lab").write_text("other")
    cuts, _, report = prepare(tmp_path)
    assert sorted(cuts) == TEN
    assert [item for item, _ in report.items] == ["u00"]


@pytest.mark.parametrize("deeper", ["", "audio"])
def test_the_current_folder_is_another_corpus(tmp_path, record, monkeypatch, caplog, deeper):
    """Relative paths of a table count from its folder, never first from where one happens to be."""
    for corpus in ("here", "there"):
        for name in TEN:
            record(tmp_path / corpus / deeper / "wavs" / f"{name}.wav")
            record(tmp_path / "here" / "wavs" / f"{name}.wav")
        rows = [f"wavs/{name}.wav|Says {name} {corpus}" for name in TEN]
        (tmp_path / corpus / "metadata.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path / "here")
    with caplog.at_level("INFO"):
        cuts, _, report = prepare(Path("../there"), dev=0.0, test=0.0)
    assert sorted(cuts) == TEN
    assert not report.items
    assert {audio_path(cut).resolve().parent for cut in cuts.values()} == {
        tmp_path / "there" / deeper / "wavs"
    }
    assert "not named by the transcripts" not in caplog.text


def test_paths_that_only_the_current_folder_makes_whole(tmp_path, record, monkeypatch):
    for name in TEN:
        record(tmp_path / "elsewhere" / "wavs" / f"{name}.wav")
    (tmp_path / "corpus").mkdir()
    rows = [f"elsewhere/wavs/{name}.wav|Says {name}" for name in TEN]
    (tmp_path / "corpus" / "metadata.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    cuts, _, _ = prepare(Path("corpus"), dev=0.0, test=0.0)
    assert audio_path(cuts["u03"]) == tmp_path / "elsewhere" / "wavs" / "u03.wav"

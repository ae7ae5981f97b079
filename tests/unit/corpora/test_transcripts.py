"""Which column, and which file, has the text of a recording."""

from pathlib import Path

import pytest

from speechmm.data.corpora import folder
from speechmm.data.skips import SkipReport
from speechmm.data.transcripts.audio_lookup import AudioLookup
from speechmm.data.transcripts.columns import roles_from_data
from speechmm.data.transcripts.sidecars import pair_files, text_beside
from speechmm.data.transcripts.timed_labels import has_times
from speechmm.errors import ManifestError

ONE, TWO = "\xe4", "a\u0308"  # an umlaut as one character and as two
FOUR = ["ann/1", "ann/2", "bob/3", "bob/4"]


def prepare(root: Path, **options):
    """All cuts by id, and what was left out."""
    report = SkipReport()
    splits = folder.prepare(root, report, dev=0.0, test=0.0, **options)
    return {cut.id: cut for cuts in splits.values() for cut in cuts}, dict(report.items)


def texts(cuts):
    return {name: cut.supervisions[0].text for name, cut in cuts.items()}


def speakers(cuts):
    return {name: cut.supervisions[0].speaker for name, cut in cuts.items()}


def roles(*columns: str, audio: str = "ann/1 ann/2 bob/3 bob/4", folders: bool = True):
    """The roles of a table of four rows; a column is written with blanks, _ within a value."""
    split = [[value.replace("_", " ") for value in column.split()] for column in columns]
    records = list(map(list, zip(audio.split(), *split, strict=True)))
    found, _ = roles_from_data(
        Path("x.csv"), records, lambda name: name in audio.split(), lambda names: folders
    )
    return {role: column for role, column in found.items() if role != "audio"}


SAYS = "he_says_1 she_says_2 he_says_3 it_says_4"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([SAYS, "2.4 2.4 3.0 1.5"], {"text": 1}),
        ([SAYS, "2,4 2,4 3 1,5"], {"text": 1}),
        ([SAYS, "2400 2400 3000 1500"], {"text": 1}),
        ([SAYS, "de de de de"], {"text": 1}),
        (["2.4 2.4 3.0 1.5", "ann ann bob bob", SAYS], {"speaker": 2, "text": 3}),
        (["103 103 104 104", SAYS], {"speaker": 1, "text": 2}),
        (["de de de de", "ann ann bob bob", SAYS], {"speaker": 2, "text": 3}),
        (["yes no yes no", "2.4 2.4 3.0 1.5"], {"text": 1}),
        (["yes no yes no", "Yes No Yes No"], {"text": 2}),
    ],
)
def test_which_columns_name_speakers(columns, expected):
    assert roles(*columns) == expected


def test_one_speaker_of_all_rows_is_known_where_there_are_no_folders():
    assert roles(SAYS, "LJ LJ LJ LJ", folders=False) == {"text": 1, "speaker": 2}


@pytest.mark.parametrize(
    "columns",
    [["zero one zero one", "ann ann bob bob"], ["yes no yes no", "de de de de"]],
)
def test_two_columns_of_single_words_are_not_told_apart(columns):
    with pytest.raises(ManifestError, match="cannot tell which is the text"):
        roles(*columns)


@pytest.mark.parametrize("others", ["2.4", "de"])
@pytest.mark.parametrize("named", ["{}.wav", "/my/own/{}.wav"])
def test_folders_are_the_speakers_where_no_column_is(tmp_path, record, others, named):
    for name in FOUR:
        record(tmp_path / f"{name}.wav")
    rows = [f"{named.format(name)}|hello number {name[-1]}|{others}" for name in FOUR]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    cuts, skipped = prepare(tmp_path)
    assert speakers(cuts) == {"1": "ann", "2": "ann", "3": "bob", "4": "bob"}
    assert texts(cuts)["3"] == "hello number 3"
    assert not skipped


def test_folders_of_splits_are_no_folders_of_speakers():
    root = Path("corpus")
    lookup = AudioLookup(root, [root / f"{name}.wav" for name in ("train/a", "test/b", "x/c")])
    assert not lookup.in_folders(["a", "b.wav"])
    assert lookup.in_folders(["a", "c"])


def test_the_normalized_text_comes_first_and_the_plain_one_where_it_is_empty(tmp_path, record):
    for name in "ab":
        record(tmp_path / f"{name}.wav")
    (tmp_path / "metadata.csv").write_text(
        "id|text|normalized_text\na|Dr. No|doctor no\nb|yes, yes|\n"
    )
    cuts, skipped = prepare(tmp_path)
    assert texts(cuts) == {"a": "doctor no", "b": "yes, yes"}
    assert not skipped


@pytest.mark.parametrize(
    ("header", "names"),
    [("file_id,start,end,text", "long long"), ("path,id,start,end,text", "long.wav,u long.wav,u")],
)
def test_segments_of_one_id_are_told_apart_by_their_starts(tmp_path, record, header, names):
    record(tmp_path / "long.wav", 3.0)
    first, second = names.split()
    (tmp_path / "metadata.csv").write_text(
        f"{header}\n{first},0,1,one\n{second},1,2.5,two\n{first},nan,2,x\n{first},0,inf,y\n"
        f"{first},1e308,2,z\n"
    )
    cuts, skipped = prepare(tmp_path)
    name = "u" if "u" in names else "long"
    assert texts(cuts) == {f"{name}-0000000": "one", f"{name}-0001000": "two"}
    assert "line 6: found the times ['1e308', '2']; expected seconds" in skipped[name]


def test_segments_with_ids_of_their_own_keep_them(tmp_path, record):
    record(tmp_path / "long.wav", 3.0)
    (tmp_path / "metadata.csv").write_text(
        "path,id,start,end,text\nlong.wav,u1,0,1,one\nlong.wav,u2,1,2.5,two\n"
    )
    cuts, _ = prepare(tmp_path)
    assert texts(cuts) == {"u1": "one", "u2": "two"}


def test_ids_that_come_once_stay(tmp_path, record):
    for name in ("u1", "u2"):
        record(tmp_path / f"{name}.wav", 2.0)
    (tmp_path / "metadata.csv").write_text("id,start,end,text\nu1,0,1,one\nu2,0.5,1.5,two\n")
    cuts, _ = prepare(tmp_path)
    assert texts(cuts) == {"u1": "one", "u2": "two"}


def test_times_that_are_not_finite_are_named_with_their_line(tmp_path, record):
    record(tmp_path / "long.wav", 3.0)
    rows = [f"long.wav,{start},2,x" for start in ("nan", "inf", "-inf", "1")]
    (tmp_path / "metadata.csv").write_text("path,start,end,text\n" + "\n".join(rows))
    report = SkipReport()
    splits = folder.prepare(tmp_path, report, dev=0.0, test=0.0)
    assert [cut.id for cut in splits["train"]] == ["long-0001000"]
    assert [reason.split(":")[0] for _, reason in report.items] == ["line 2", "line 3", "line 4"]


def pairs(root: Path, names: str):
    """Which text each recording of these empty files gets: of all files, and beside it alone."""
    for name in names.split():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    audio = [path for path in files if path.suffix.lower() == ".wav"]
    found = {
        path.relative_to(root).as_posix(): text.relative_to(root).as_posix()
        for path, text in pair_files(files, audio).items()
    }
    beside = {path: text_beside(path) for path in audio}
    alone = {path.name: text.name for path, text in beside.items() if text is not None}
    return found, alone


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("S.wav s.wav S.txt s.txt", {"S.wav": "S.txt", "s.wav": "s.txt"}),
        ("S.wav s.wav S.wav.txt s.wav.txt", {"S.wav": "S.wav.txt", "s.wav": "s.wav.txt"}),
        ("S.wav s.wav S.txt", {"S.wav": "S.txt"}),
        ("S.wav s.wav s.txt s.lab", {"s.wav": "s.txt"}),
        ("S.WAV s.lab", {"S.WAV": "s.lab"}),
        (f"{TWO}.wav {ONE}.wav {ONE}.txt {TWO}.txt", {f"{n}.wav": f"{n}.txt" for n in (ONE, TWO)}),
        (f"{ONE}.wav {TWO}.txt", {f"{ONE}.wav": f"{TWO}.txt"}),
    ],
)
def test_names_that_differ_in_case_or_form_only(tmp_path, names, expected):
    assert pairs(tmp_path, names) == (expected, expected)


def test_names_of_a_table_that_differ_in_case_only(tmp_path, record):
    for name in "Ss":
        record(tmp_path / f"{name}.wav")
    (tmp_path / "metadata.csv").write_text("id,text\nS,large one\ns,small one\n")
    cuts, skipped = prepare(tmp_path)
    assert texts(cuts) == {"S": "large one", "s": "small one"}
    assert not skipped


def test_names_that_differ_in_case_only_in_two_trees(tmp_path):
    found, _ = pairs(tmp_path, "wav/S.wav wav/s.wav wav/T.wav txt/S.txt txt/s.txt txt/t.txt")
    assert found == {"wav/S.wav": "txt/S.txt", "wav/s.wav": "txt/s.txt", "wav/T.wav": "txt/t.txt"}


@pytest.mark.parametrize(
    "text",
    [
        "0 1000000 sil\n1000000 2500000 hello\n",  # HTK
        "0 1000000 1\n1000000 2500000 2\n",
        "2700000 9300000 yes\n",
        "#\n0.13500 125 pau\n0.29000 125 ao\n",  # CMU ARCTIC
        "separator ;\nnfields 1\n#\n   0.2200 26 pau\n   0.4 26 1\n   0.5 26 b\n",
        "0 46797 She had your dark suit in greasy wash water all year.\n",  # TIMIT
        "0.000000\t1.250000\thello there\n",  # Audacity
        "0 1 hello\n1 3 there\n",
    ],
)
def test_labels_with_times_are_no_transcript(tmp_path, record, text):
    assert has_times(text)
    for name in "ab":
        record(tmp_path / f"{name}.wav")
    (tmp_path / "a.lab").write_text(text)
    (tmp_path / "b.lab").write_text("hello")
    cuts, skipped = prepare(tmp_path)
    assert texts(cuts) == {"b": "hello"}
    assert "a.lab: found times, not a transcript" in skipped["a.wav"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#",
        "1 2 3",
        "1 2",
        "20 20 vision",
        "1914 1918 war",
        "0 800 call us",
        "2.5 3.5 metres",
        "1 2 buckle my shoe\n3 4 knock at the door",
        "1 2 3\n4 5 6",
        "1 2 3\n2 3 4",
        "1914 1918 war\n1939 1945 war",
        "0 1000000 sil\nand more",
        "3 2 one\n1 0 go",
    ],
)
def test_transcripts_that_begin_with_numbers(text):
    assert not has_times(text)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("speaker,age,gender\nann,31,f\n", {"ann": "beside ann", "bob": "beside bob"}),
        ("id,age\nann,31\n", {"ann": "beside ann", "bob": "beside bob"}),
        ("f\xfcr", {"ann": "beside ann", "bob": "beside bob"}),
        ("", {"ann": "beside ann", "bob": "beside bob"}),
        ("id,text\nann,of the table\n", {"ann": "of the table"}),
    ],
)
def test_a_table_beside_text_files_of_all_recordings(tmp_path, record, caplog, table, expected):
    for name in ("ann", "bob"):
        record(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(f"beside {name}")
    (tmp_path / "metadata.csv").write_bytes(table.encode("latin-1"))
    with caplog.at_level("INFO"):
        cuts, skipped = prepare(tmp_path)
    assert texts(cuts) == expected
    assert not skipped
    assert ("metadata.csv is passed over" in caplog.text) == (len(expected) == 2)
    (tmp_path / "bob.txt").unlink()
    if "age" in table:
        with pytest.raises(ManifestError):
            prepare(tmp_path)

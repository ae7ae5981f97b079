"""Manifests: what is written comes back, and every broken line is named."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lhotse import CutSet, MonoCut
from lhotse.supervision import AlignmentItem

from speechmm.data.manifest import cut_text, make_cut, read_cuts, reference_alignment, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import AudioError, ConfigError, ManifestError

MakeAudio = Callable[..., Path]
MakeCuts = Callable[..., list[MonoCut]]


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz", "a 'b' é.jsonl.gz"])
def test_round_trip(name: str, make_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = make_cuts(1.0, 0.5, text="Zoë's 'café'")
    assert write_cuts(cuts, tmp_path / "new" / name) == 2
    assert list(read_cuts(tmp_path / "new" / name)) == cuts
    assert list(CutSet.from_file(tmp_path / "new" / name)) == cuts  # lhotse's own reader
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_same_cuts_same_bytes(make_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = make_cuts(1.0, 0.5)
    write_cuts(cuts, tmp_path / "a.jsonl.gz")
    write_cuts(cuts, tmp_path / "b.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_paths_that_are_not_utf8_come_back(make_audio: MakeAudio, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        make_audio("a.wav", 0.5).rename(odd)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    write_cuts([make_cut(id="a", audio=odd, text="é")], tmp_path / "c.jsonl.gz")
    assert read_cuts(tmp_path / "c.jsonl.gz")["a"].recording.sources[0].source == str(odd)


def test_duplicate_ids_are_not_written(make_cuts: MakeCuts, tmp_path: Path) -> None:
    (cut,) = make_cuts(1.0)
    path = tmp_path / "cuts.jsonl"
    path.write_text("as before")
    with pytest.raises(ManifestError, match='id "utt-0" is there twice'):
        write_cuts([cut, cut], path)
    assert path.read_text() == "as before"


def test_invalid_cuts_are_not_written(make_cuts: MakeCuts, tmp_path: Path) -> None:
    (cut,) = make_cuts(1.0)
    cut.duration = -1.0
    with pytest.raises(ManifestError, match="cut utt-0 is not valid"):
        write_cuts([cut], tmp_path / "cuts.jsonl")
    assert not (tmp_path / "cuts.jsonl").exists()


def test_unwritable_folder(make_cuts: MakeCuts, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_cuts(make_cuts(1.0), tmp_path / "file" / "cuts.jsonl")


BAD_LINES = {
    "not-json": (b"{oops", "not JSON"),
    "not-utf8": (b'{"id": "caf\xe9"}', "not UTF-8"),
    "a-list": (b"[1]", "found list"),
    "a-recording": (b'{"id": "r", "sources": []}', "found no cut"),
    "a-mix": (b'{"type": "MixedCut", "id": "m"}', "found MixedCut"),
    "half-a-cut": (b'{"type": "MonoCut", "id": "m"}', "not a valid cut"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line(name: str, make_cuts: MakeCuts, tmp_path: Path) -> None:
    line, reason = BAD_LINES[name]
    path = tmp_path / "cuts.jsonl"
    write_cuts(make_cuts(1.0, 0.5), path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b"", line, lines[1], b""]))

    with pytest.raises(ManifestError, match=rf"cuts.jsonl:3: .*{reason}.*; expected one valid cut"):
        read_cuts(path)
    report = SkipReport()
    assert list(read_cuts(path, report).ids) == ["utt-0", "utt-1"]
    ((where, why),) = report.items
    assert where == f"{path}:3"
    assert reason in why


def test_second_cut_of_an_id_is_skipped(make_cuts: MakeCuts, tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl"
    write_cuts(make_cuts(1.0), path)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ManifestError, match=':2: id "utt-0" was on line 1 already'):
        read_cuts(path)
    report = SkipReport()
    assert len(read_cuts(path, report)) == len(report) == 1


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"not found; expected a cuts manifest\. Make it"):
        read_cuts(tmp_path / "none.jsonl.gz", SkipReport())


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{oops\n"])
def test_nothing_usable(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="no usable cuts"):
        read_cuts(path, SkipReport())


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"not gzip"])
def test_damaged_gzip(
    damage: Callable[[bytes], bytes], make_cuts: MakeCuts, tmp_path: Path
) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    write_cuts(make_cuts(1.0, 2.0), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ManifestError, match="cannot be read"):
        read_cuts(path, SkipReport())


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"without cuts\.000000\.jsonl\.gz"):
        read_cuts(tmp_path)


def test_make_cut_of_a_whole_file(
    make_audio: MakeAudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_audio("a.wav", 1.25, rate=8000, channels=3)
    monkeypatch.chdir(tmp_path)
    cut = make_cut(id="x", audio="audio/a.wav", text="hi", speaker="s", language="en")
    assert (cut.start, cut.duration, cut.sampling_rate) == (0.0, 1.25, 8000)
    assert cut.recording.sources[0].source == str(tmp_path / "audio" / "a.wav")
    assert cut.recording.num_channels == 3
    assert (cut_text(cut), cut.supervisions[0].speaker) == ("hi", "s")
    assert cut.supervisions[0].language == "en"
    assert reference_alignment(cut) is None


def test_make_cut_of_a_span(make_audio: MakeAudio) -> None:
    words = [AlignmentItem("a", 0.6, 0.2), AlignmentItem("b", 0.9, 0.4, 0.5)]
    cut = make_cut(
        id="x",
        audio=make_audio("a.wav", 2.0),
        text="a b",
        start=0.5,
        duration=0.75,
        alignment={"word": words},
    )
    assert (cut.start, cut.duration, cut.end) == (0.5, 0.75, 1.25)
    reference = reference_alignment(cut)
    assert reference is not None
    assert [(w.label, w.confidence) for w in reference.words] == [("a", None), ("b", 0.5)]
    times = [time for word in reference.words for time in (word.start, word.end)]
    assert times == pytest.approx([0.1, 0.3, 0.4, 0.75])  # the last ends with the cut
    assert cut.supervisions[0].alignment == {"word": words}  # lhotse counts in the recording


def test_alignment_follows_lhotses_speed(make_cuts: MakeCuts) -> None:
    (cut,) = make_cuts(1.0)
    reference = reference_alignment(cut.perturb_speed(0.5))
    assert reference is not None
    assert reference.duration == 2.0
    assert [word.start for word in reference.words] == pytest.approx([0.2, 0.8], abs=1e-4)


def test_span_ending_just_after_its_file(make_audio: MakeAudio) -> None:
    cut = make_cut(id="x", audio=make_audio("a.wav", 1.0), text="", start=0.5, duration=0.52)
    assert cut.end == 1.0


@pytest.mark.parametrize(("start", "duration"), [(0.0, 2.0), (1.0, None), (-0.1, 0.5), (0.5, 0.0)])
def test_span_outside_its_file(start: float, duration: float | None, make_audio: MakeAudio) -> None:
    with pytest.raises(ManifestError, match=r"x: the span .* expected one inside its 1.000 s"):
        make_cut(id="x", audio=make_audio("a.wav", 1.0), text="", start=start, duration=duration)


def test_make_cut_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"none\.wav"):
        make_cut(id="x", audio=tmp_path / "none.wav", text="a")


def test_gzip_has_no_time_stamp(make_cuts: MakeCuts, tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    write_cuts(make_cuts(1.0), path)
    assert path.read_bytes()[4:8] == b"\0\0\0\0"
    assert json.loads(gzip.decompress(path.read_bytes()))["id"] == "utt-0"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channel", None),
        ("channel", "0"),
        ("features", {"type": "x"}),
        ("features", [1]),
        ("custom", 3),
    ],
)
def test_parts_of_other_types_are_no_cut(
    make_cuts: MakeCuts, tmp_path: Path, key: str, value: object
) -> None:
    path = tmp_path / "cuts.jsonl"
    write_cuts(make_cuts(1.0, 2.0), path)
    first, second = path.read_text("utf-8").splitlines()
    path.write_text(json.dumps({**json.loads(first), key: value}) + f"\n{second}\n", "utf-8")
    report = SkipReport()
    assert len(read_cuts(path, report)) == 1
    assert "values of other types" in report.items[0][1]

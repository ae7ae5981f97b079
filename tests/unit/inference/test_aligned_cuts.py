"""``speechmm align --format cuts``: what lhotse makes of the manifest, and what comes back from it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, SupervisionSet
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from speechmm.alignments import Alignment, Segment
from speechmm.cli.main import main
from speechmm.data.aligned_cuts import with_alignment
from speechmm.data.manifest import make_cut, read_cuts, reference_alignment, write_cuts
from speechmm.errors import AlignmentError
from speechmm.models.bundle import Bundle

MODEL = ["--model", "tones"]
RATE = 16_000
FRAME = 0.011  # one frame of 10 ms, and rounding


@pytest.fixture(autouse=True)
def hear_tones(tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The commands load the bundle of tones, and run in an empty folder."""
    monkeypatch.setattr("speechmm.models.bundle.load_bundle", lambda *_, **__: tone_bundle)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def speech(speak: Callable):
    """One recording, "ab cd ef gh", saved as tape.wav."""
    speech = speak("ab cd ef gh", pauses=[0.5, 0.37])
    speech.save(Path("tape.wav"))
    return speech


@pytest.fixture
def segments(speech) -> Path:
    """A Kaldi folder with two segments of one recording, prepared: the second starts within it."""
    middle = speech.words[2].start - 0.2513
    folder = Path("kaldi/train")
    folder.mkdir(parents=True)
    (folder / "wav.scp").write_text(f"tape {Path('tape.wav').absolute()}\n")
    (folder / "segments").write_text(f"u1 tape 0 {middle}\nu2 tape {middle} -1\n")
    (folder / "text").write_text("u1 ab CD\nu2 Ef, gh\n")
    (folder / "utt2spk").write_text("u1 ann\nu2 ann\n")
    assert call("prepare", "kaldi", "kaldi", "data", "--dev", 0, "--test", 0) == 0
    return Path("data/train.jsonl.gz")


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def align(source: object, out: str, *more: object) -> list[MonoCut]:
    """The cuts ``align`` writes, as lhotse itself reads them."""
    assert call("align", source, *MODEL, "--format", "cuts", "--out", out, *more) == 0
    return list(CutSet.from_file(out))


@pytest.mark.parametrize("out", ["a.jsonl", "new/a.jsonl.gz"])
def test_lhotse_cuts_out_each_word_where_it_was_said(segments: Path, speech, out: str) -> None:
    cuts = align(segments, out)
    assert [cut.start > 0 for cut in cuts] == [False, True]
    pieces = [piece for cut in cuts for piece in cut.trim_to_alignments("word")]
    assert [piece.supervisions[0].text for piece in pieces] == ["ab", "CD", "Ef,", "gh"]
    for piece, word in zip(pieces, speech.words, strict=True):
        assert (piece.start, piece.end) == pytest.approx((word.start, word.end), abs=FRAME)
        first, audio = round(piece.start * RATE), piece.load_audio()[0]
        np.testing.assert_allclose(audio, speech.waveform[first : first + len(audio)])
        blocks = audio[: len(audio) // 160 * 160].reshape(-1, 160)  # 10 ms
        assert (np.abs(blocks[1:-1]).max(axis=1) > 0.2).all()  # no silence in a word
    letters = list(cuts[1].trim_to_alignments("char"))
    assert [piece.supervisions[0].text for piece in letters] == list("efgh")
    assert letters[-1].end == pytest.approx(speech.words[3].end, abs=FRAME)


def test_words_at_the_very_edges_of_a_cut(speech) -> None:
    start = speech.words[1].start + 1 / 3e9  # more decimals than are written
    cut = make_cut(id="c", audio="tape.wav", text="cd", start=start, duration=0.5)
    times = [("c", 0.0, 0.4), ("d", 0.4, 0.52), ("e", 0.5, 0.52)]  # a file longer than it was
    words = [Segment(label=label, start=begin, end=end) for label, begin, end in times]
    one = Alignment(id="c", duration=0.5, units={"word": words})
    pieces = list(with_alignment(cut, one, text="c d e").trim_to_alignments("word"))
    found = [(piece.start - start, piece.duration) for piece in pieces]
    assert found == [pytest.approx(span, abs=1 / RATE) for span in [(0, 0.4), (0.4, 0.1)]]


def test_times_are_those_of_lhotses_ctm(segments: Path) -> None:
    """lhotse gives words of a CTM to the supervision they lie in, by the clock of the recording."""
    aligned = [
        cut.supervisions[0].with_offset(cut.start) for cut in align(segments, "aligned.jsonl")
    ]
    SupervisionSet.from_segments(aligned).write_alignment_to_ctm("words.ctm")
    bare = SupervisionSet.from_segments(fastcopy(one, alignment=None) for one in aligned)
    for again in bare.with_alignment_from_ctm("words.ctm"):
        (before,) = (one for one in aligned if one.id == again.id)
        ours, theirs = before.alignment["word"], again.alignment["word"]
        assert [item.symbol for item in ours] == [item.symbol for item in theirs]
        assert [i.start for i in ours] == pytest.approx([i.start for i in theirs], abs=0.0051)
        assert all(0 < item.score <= 1 for item in ours)


def test_the_same_as_jsonl_for_score_alignment(segments: Path) -> None:
    align(segments, "aligned.jsonl.gz")
    assert call("align", segments, *MODEL, "--format", "jsonl", "--out", "rows.jsonl") == 0
    for pair in (["aligned.jsonl.gz", "rows.jsonl"], ["rows.jsonl", "aligned.jsonl.gz"]):
        assert call("score-alignment", *pair, "--out", "score") == 0
        units = json.loads(Path("score/alignment.json").read_text("utf-8"))
        assert {unit: row["boundaries"] for unit, row in units.items()} == {"word": 8, "char": 16}
        for row in units.values():
            assert (row["missing"], row["extra"]) == (0, 0)
            assert row["mean_ms"] == pytest.approx(0, abs=1e-4)


def test_a_cut_stays_as_it_was(speech) -> None:
    old = {kind: [AlignmentItem("x", 1.2, 0.1)] for kind in ("word", "phone")}
    cut = make_cut(
        id="c/1", audio="tape.wav", text="CD  ef", start=1.0, language="en", speaker="ann",
        duration=speech.words[2].end + 0.1 - 1.0, alignment=old,
    )  # fmt: skip
    cut.custom = {"take": 3}
    cut.supervisions[0].custom = {"mood": "calm"}
    write_cuts([cut], Path("cuts.jsonl"))
    (found,) = align("cuts.jsonl", "aligned.jsonl", "--unit", "word")
    items = found.supervisions[0].alignment
    assert list(items) == ["word"]  # nothing of the old alignment is left to be taken for the new
    assert [item.symbol for item in items["word"]] == ["CD", "ef"]
    bare = [fastcopy(one.supervisions[0], alignment=None) for one in (found, cut)]
    assert bare[0] == bare[1]
    assert fastcopy(found, supervisions=[]) == fastcopy(cut, supervisions=[])


def test_audio_files_become_cuts(speak: Callable) -> None:
    speak("ab cd").save(Path("sounds/one.wav"))
    speak("ef").save(Path("sounds/deep/one.flac"), "PCM_16")
    Path("sounds/one.txt").write_text("Ab -\n cd!\n")
    Path("sounds/deep/one.lab").write_text("ef")
    cuts = {cut.id: cut for cut in align("sounds", "a.jsonl")}
    assert set(cuts) == {"one", "deep/one"}
    cut = cuts["one"]
    assert cut.supervisions[0].text == "Ab - cd!"
    assert cut.recording.sources[0].source == str(Path("sounds/one.wav").absolute())
    assert (cut.start, cut.duration) == (0, cut.recording.duration)
    words = [piece.supervisions[0].text for piece in cut.trim_to_alignments("word")]
    assert words == ["Ab", "cd!"]  # the dash has no length: lhotse would stop at it


def test_text_of_the_command_line(speech) -> None:
    cut = make_cut(id="c", audio="tape.wav", text="wrong", speaker="ann")
    bare = fastcopy(cut, supervisions=[])
    for number, one in enumerate([cut, bare]):
        write_cuts([one], Path(f"{number}.jsonl"))
        (found,) = align(f"{number}.jsonl", "a.jsonl", "--text", " ab cd\nef gh ")
        (supervision,) = found.supervisions
        assert supervision.text == "ab cd ef gh"
        assert [item.symbol for item in supervision.alignment["word"]] == supervision.text.split()
        assert supervision.speaker == (None if one is bare else "ann")
        assert (supervision.start, supervision.end) == (0, found.duration)


def test_several_supervisions_get_their_own_words(speech) -> None:
    cut = make_cut(id="c", audio="tape.wav", text="ab -", speaker="ann")
    (first,) = cut.supervisions
    texts = {"c": "ab -", "noise": None, "d": "cd ef", "e": "gh"}
    several = [replace(first, id=id, text=text) for id, text in texts.items()]
    cut = fastcopy(cut, supervisions=several)
    write_cuts([cut], Path("cuts.jsonl"))
    (found,) = align("cuts.jsonl", "a.jsonl")
    for unit, symbols in (
        ("word", [["ab"], [], ["cd", "ef"], ["gh"]]),
        ("char", [["a", "b"], [], ["c", "d", "e", "f"], ["g", "h"]]),
    ):
        heard = [(one.alignment or {}).get(unit, []) for one in found.supervisions]
        assert [[item.symbol for item in items] for items in heard] == symbols
    assert [one.text for one in found.supervisions] == list(texts.values())
    reference = reference_alignment(next(iter(read_cuts("a.jsonl"))))
    assert [word.label for word in reference.words] == ["ab", "cd", "ef", "gh"]
    chars = [Segment(label="a", start=0.3, end=0.5)]
    alignment = Alignment(id="c", duration=cut.duration, units={"char": chars})
    with pytest.raises(AlignmentError, match=r'3 supervisions of 5 words.*Align the unit "word"'):
        with_alignment(cut, alignment, text="ab - cd ef gh")


@pytest.mark.parametrize("out", ["cuts", "cuts.json", "cuts.gz"])
def test_a_name_that_is_no_manifest(speech, out: str, capsys: pytest.CaptureFixture) -> None:
    arguments = ["align", "tape.wav", *MODEL, "--text", "ab", "--format", "cuts", "--out", out]
    assert call(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--out: found '{out}'; expected a name that ends in .jsonl or .jsonl.gz" in line
    assert not Path(out).exists()

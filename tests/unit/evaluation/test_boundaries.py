"""Boundary errors: which units belong together, how far apart their edges are, in every format."""

import json
from pathlib import Path
from typing import Any

import pytest
from lhotse.supervision import AlignmentItem

from speechmm.alignments import Alignment, Segment, write_alignments
from speechmm.cli.main import main
from speechmm.errors import AlignmentError, ManifestError
from speechmm.evaluation.alignment_sets import read_alignment_set
from speechmm.evaluation.boundaries import score_boundaries
from speechmm.evaluation.boundary_tables import boundary_table

Spans = list[tuple[str, float, float]]
REFERENCE: Spans = [("the", 0.1, 0.3), ("cat", 0.3, 0.6), ("sat", 0.8, 1.2)]


def alignment(spans: Spans, id: str = "u1", kind: str = "word") -> Alignment:
    rows = [Segment(label=label, start=start, end=end) for label, start, end in spans]
    return Alignment(id=id, duration=2.0, units={kind: rows})


def word_row(hypothesis: Spans, reference: Spans = REFERENCE) -> dict[str, Any]:
    score = score_boundaries({"u1": alignment(hypothesis)}, {"u1": alignment(reference)})
    return score.units["word"]


def test_errors_of_both_edges() -> None:
    row = word_row([("the", 0.1, 0.32), ("cat", 0.32, 0.6), ("sat", 0.74, 1.2)])
    assert row["boundaries"] == 6
    assert row["mean_ms"] == pytest.approx((20 + 20 + 60) / 6)
    assert row["median_ms"] == pytest.approx(10)
    assert row["within_ms"] == pytest.approx(
        {"10": 3 / 6, "20": 5 / 6, "25": 5 / 6, "50": 5 / 6, "100": 1.0}
    )
    assert (row["missing"], row["extra"]) == (0, 0)
    assert row["ci95_ms"] == pytest.approx([100 / 6, 100 / 6])
    assert row["start"]["bias_ms"] == pytest.approx(-40 / 3)
    assert row["end"]["bias_ms"] == pytest.approx(20 / 3)


def test_ranges_that_hold_the_edges_of_the_reference_are_counted_by_width() -> None:
    rows = [
        Segment(label=label, start=start, end=end, start_range=first, end_range=last)
        for label, start, end, first, last in [
            ("the", 0.11, 0.31, (0.1, 0.11), (0.305, 0.315)),
            ("cat", 0.3, 0.6, (0.25, 0.35), (0.5, 0.7)),
            ("sat", 0.8, 1.2, (0.81, 0.83), None),
        ]
    ]
    found = Alignment(id="u1", duration=2.0, units={"word": rows})
    score = score_boundaries({"u1": found}, {"u1": alignment(REFERENCE)})
    ranges = score.units["word"]["ranges"]
    assert ranges is not None
    assert ranges["edges"] == 5
    assert ranges["holding"] == pytest.approx(3 / 5)  # one ends where the edge is
    assert ranges["median_ms"] == pytest.approx(20)
    assert [one["holding"] for one in ranges["quarters"]] == pytest.approx([0.5, 0, 1, 1])
    assert "ranges of word edges: 60.0 % of 5 hold the reference's" in boundary_table(score)
    assert word_row(REFERENCE)["ranges"] is None


def test_labels_are_compared_without_case_and_punctuation() -> None:
    row = word_row([("The", 0.1, 0.3), ("CAT,", 0.3, 0.6), ("sat.", 0.8, 1.2)])
    assert (row["mean_ms"], row["relabelled"]) == (0, 0)


def test_missing_and_extra_units_do_not_shift_the_others() -> None:
    row = word_row([("um", 0.0, 0.1), ("the", 0.1, 0.3), ("cat", 0.3, 0.6)])
    assert (row["missing"], row["extra"]) == (1, 1)
    assert (row["boundaries"], row["mean_ms"]) == (4, 0)


def test_another_label_at_the_same_place_is_matched() -> None:
    row = word_row([("the", 0.1, 0.3), ("dog", 0.3, 0.7), ("sat", 0.8, 1.2)])
    assert (row["boundaries"], row["relabelled"], row["missing"]) == (6, 1, 0)
    assert row["mean_ms"] == pytest.approx(100 / 6)


def test_pauses_are_no_units() -> None:
    spans = [("sil", 0.0, 0.1), *REFERENCE[:2], ("", 0.6, 0.8), *REFERENCE[2:], ("<eps>", 1.2, 2.0)]
    row = word_row(spans)
    assert (row["boundaries"], row["extra"], row["mean_ms"]) == (6, 0, 0)


def test_nothing_matched_gives_no_numbers() -> None:
    row = word_row([])
    assert (row["boundaries"], row["missing"]) == (0, 3)
    assert row["mean_ms"] is None
    assert set(row["within_ms"].values()) == {None}


def test_units_of_missing_utterances_are_missing() -> None:
    references = {id: alignment(REFERENCE, id) for id in ("u1", "u2")}
    score = score_boundaries({"u1": alignment(REFERENCE), "u9": alignment([], "u9")}, references)
    assert (score.missing, score.extra) == (["u2"], ["u9"])
    assert score.units["word"]["missing"] == 3


def test_nothing_in_common() -> None:
    one = {"u1": alignment(REFERENCE)}
    with pytest.raises(ManifestError, match=r"no id in common .*'u1' and 'u2'"):
        score_boundaries(one, {"u2": alignment(REFERENCE, "u2")})
    with pytest.raises(ManifestError, match="units word, and phone in the reference"):
        score_boundaries(one, {"u1": alignment(REFERENCE, kind="phone")})


@pytest.mark.parametrize("format", ["jsonl", "ctm", "textgrid"])
def test_every_format_gives_the_same(format: str, tmp_path: Path) -> None:
    ids = ["dir/u 1", "u2"]
    rows = [alignment(REFERENCE, id) for id in ids]
    out = tmp_path / ("grids" if format == "textgrid" else f"hyp.{format}")
    write_alignments(rows, out, format)
    score = score_boundaries(read_alignment_set(out), {row.id: row for row in rows})
    assert (score.missing, score.extra) == ([], [])
    assert score.units["word"]["boundaries"] == 12
    assert score.units["word"]["mean_ms"] == pytest.approx(0, abs=0.1)


def test_words_of_transcripts_start_with_their_utterance(tmp_path: Path) -> None:
    words = [{"word": w, "start": 10 + s, "end": 10 + e} for w, s, e in REFERENCE]
    row = {"id": "u1", "start": 10.0, "duration": 2.0, "text": "the cat sat", "words": words}
    (tmp_path / "hyp.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    score = score_boundaries(
        read_alignment_set(tmp_path / "hyp.jsonl"), {"u1": alignment(REFERENCE)}
    )
    assert score.units["word"]["mean_ms"] == pytest.approx(0, abs=1e-6)


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    import numpy as np
    import soundfile

    from speechmm.data.manifest import make_cut, write_cuts

    soundfile.write(tmp_path / "a.wav", np.zeros(48000), 16000)
    items = [AlignmentItem(label, 1 + start, end - start) for label, start, end in REFERENCE]
    cut = make_cut(
        id="u1", audio=tmp_path / "a.wav", text="the cat sat", start=1.0, duration=2.0,
        alignment={"word": items},
    )  # fmt: skip
    write_cuts([cut], tmp_path / "ref.jsonl.gz")
    return tmp_path / "ref.jsonl.gz"


def test_command_against_cuts(
    cuts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hyp, out = tmp_path / "hyp.jsonl", tmp_path / "out"
    write_alignments([alignment(REFERENCE)], hyp, "jsonl")
    results = ["--results", str(tmp_path / "RESULTS.md"), "--title", "edges"]
    assert main(["score-alignment", str(hyp), str(cuts), "--out", str(out), *results]) == 0
    rows = json.loads((out / "alignment.json").read_text(encoding="utf-8"))
    assert list(rows) == ["word"]
    assert rows["word"].keys() >= {
        "boundaries",
        "mean_ms",
        "median_ms",
        "within_ms",
        "missing",
        "extra",
    }
    assert rows["word"]["within_ms"]["10"] == 1.0
    assert "word" in capsys.readouterr().out
    assert "word edges: mean error **" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")


def test_command_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyp, ref = tmp_path / "hyp.jsonl", tmp_path / "ref.jsonl"
    write_alignments([alignment(REFERENCE)], hyp, "jsonl")
    write_alignments([alignment(REFERENCE, id) for id in ("u1", "u2")], ref, "jsonl")
    assert main(["score-alignment", str(hyp), str(ref)]) == 3
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        "skipped: u2: it has no alignment; its units count as missing",
        "1 of 2 utterances skipped",
    ]


def test_manifest_without_alignments(cuts: Path) -> None:
    import gzip

    row = json.loads(gzip.decompress(cuts.read_bytes()))
    row["supervisions"][0].pop("alignment")
    plain = cuts.with_name("plain.jsonl")
    plain.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"plain\.jsonl: no cut has an alignment"):
        read_alignment_set(plain)


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "hyp.jsonl"
    path.write_text('{"id": "u1", "words": [{"word": "a"}], "duration": 1}\n', encoding="utf-8")
    with pytest.raises(AlignmentError, match=r"hyp\.jsonl:1: "):
        read_alignment_set(path)
    with pytest.raises(AlignmentError, match=r"nowhere\.ctm"):
        read_alignment_set(tmp_path / "nowhere.ctm")

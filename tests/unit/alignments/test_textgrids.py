"""TextGrids as other programs write them: names of tiers, forms, encodings, rounding, silences."""

from itertools import pairwise
from pathlib import Path

import pytest

from speechmm.alignments import Alignment, Segment, read_alignments
from speechmm.alignments.silences import is_silence
from speechmm.cli.main import main
from speechmm.errors import AlignmentError

WORDS = [(0.0, 0.4, ""), (0.4, 0.7, "turn"), (0.7, 1.0, "on")]
FOUND = [("turn", 0.4, 0.7), ("on", 0.7, 1.0)]


def long_form(tiers: dict[str, list[tuple]], end: float = 1.0) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 "]
    lines += [f"xmax = {end} ", "tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for place, (name, rows) in enumerate(tiers.items(), 1):
        points = len(rows[0]) == 2
        kind, noun = ("TextTier", "points") if points else ("IntervalTier", "intervals")
        lines += [f"    item [{place}]:", f'        class = "{kind}" ', f'        name = "{name}" ']
        lines += [
            "        xmin = 0 ",
            f"        xmax = {end} ",
            f"        {noun}: size = {len(rows)} ",
        ]
        for number, row in enumerate(rows, 1):
            *times, label = row
            label = label.replace('"', '""')
            lines.append(f"        {noun} [{number}]:")
            keys = ("number",) if points else ("xmin", "xmax")
            lines += [f"            {k} = {t} " for k, t in zip(keys, times, strict=True)]
            lines.append(f'            {"mark" if points else "text"} = "{label}" ')
    return "\n".join(lines) + "\n"


def short_form(tiers: dict[str, list[tuple]], end: float = 1.0) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end), "<exists>"]
    lines.append(str(len(tiers)))
    for name, rows in tiers.items():
        lines += [
            '"TextTier"' if len(rows[0]) == 2 else '"IntervalTier"',
            f'"{name}"',
            "0",
            str(end),
        ]
        lines.append(str(len(rows)))
        for *times, label in rows:
            lines += [*map(str, times), '"' + label.replace('"', '""') + '"']
    return "\n".join(lines) + "\n"


def read(folder: Path, text: str, encoding: str = "utf-8") -> Alignment:
    path = folder / "u1.TextGrid"
    path.write_bytes(text.encode(encoding))
    (found,) = read_alignments(path)
    return found


def spans(segments: list[Segment]) -> list[tuple[str, float, float]]:
    return [(one.label, one.start, one.end) for one in segments]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", [long_form, short_form])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_forms_and_encodings(tmp_path: Path, form, encoding: str, ends: str) -> None:
    tiers = {"clicks": [(0.2, "!"), (0.5, "intervals [1]:")], "words": WORDS}
    tiers["phones"] = [(0, 4e-1, 'say "ə"\n item [2]:'), (0.4, "1.0e0", "text = x")]
    found = read(tmp_path, form(tiers).replace("\n", ends), encoding)
    assert found.duration == 1.0 and list(found.units) == ["word", "phone"]
    assert spans(found.words) == FOUND
    assert spans(found.units["phone"])[1] == ("text = x", 0.4, 1.0)
    assert found.units["phone"][0].label.startswith('say "ə"')


@pytest.mark.parametrize(
    "name",
    [
        "words",
        "Word",
        "anna - words",
        "words (anna)",
        "ORT-MAU",
        "ORT",
        "TokensAlign",
        "A - B - words",
    ],
)
def test_tiers_of_words(tmp_path: Path, name: str) -> None:
    assert spans(read(tmp_path, long_form({name: WORDS})).words) == FOUND


@pytest.mark.parametrize("name", ["MAU", "phones", "anna - phones", "PhonAlign", "Phonemes"])
def test_tiers_of_phones(tmp_path: Path, name: str) -> None:
    assert list(read(tmp_path, long_form({name: WORDS, "KAN-MAU": WORDS})).units) == [
        "phone",
        "KAN-MAU",
    ]


def test_speakers_of_one_recording(tmp_path: Path) -> None:
    tiers = {"anna - words": WORDS, "ben - words": [(0.5, 0.9, "no"), (0.9, 1.0, "")]}
    found = read(tmp_path, long_form(tiers))
    assert spans(found.words) == [FOUND[0], ("no", 0.5, 0.9), FOUND[1]]
    with pytest.raises(AlignmentError, match="two tiers hold the unit 'word'"):
        read(tmp_path, long_form({"words": WORDS, "word": WORDS}))


@pytest.mark.parametrize("slip", [1e-5, 1e-4, 5e-4])
def test_rounding_is_no_overlap(tmp_path: Path, slip: float) -> None:
    rows = [(0.4, 0.7 + slip, "turn"), (0.7, 0.8 - slip, "on"), (0.8, 0.8, "uh"), (0.8, 1, "now")]
    words = read(tmp_path, long_form({"words": rows})).words
    assert [word.label for word in words] == ["turn", "on", "uh", "now"]
    assert all(a.end <= b.start and a.start <= a.end for a, b in pairwise(words))
    assert abs(words[1].start - 0.7) <= slip + 1e-9


@pytest.mark.parametrize("rows", [[(0.4, 0.8, "a"), (0.7, 1, "b")], [(0.4, 0.3, "a")]])
def test_more_than_rounding_is_refused(tmp_path: Path, rows: list[tuple]) -> None:
    with pytest.raises(
        AlignmentError, match=r"u1\.TextGrid: in the tier 'words' the interval '[ab]'"
    ):
        read(tmp_path, long_form({"words": rows}))


@pytest.mark.parametrize("cut", [20, 60, 150, 300, 420])
def test_a_part_of_a_file_is_refused(tmp_path: Path, cut: int) -> None:
    text = long_form({"words": WORDS})
    with pytest.raises(AlignmentError, match="cannot be read as a TextGrid"):
        read(tmp_path, text[:cut])


LABELS = (
    "SIL",
    "<p:>",
    "spn",
    "#",
    "!SIL",
    "<eps>",
    "_",
    "pau",
    "<SIL>",
    "sp",
    "h#",
    "[SIL]",
    "{SL}",
)


@pytest.mark.parametrize("label", ["", *LABELS])
def test_silences_of_other_programs_are_no_words(tmp_path: Path, label: str, capsys) -> None:
    rows = [(0.0, 0.4, label), (0.4, 0.7, "turn"), (0.7, 0.8, label), (0.8, 1.0, "on")]
    (tmp_path / "u1.TextGrid").write_text(long_form({"words": rows}))
    (tmp_path / "ref.ctm").write_text("u1 1 0.400 0.300 turn\nu1 1 0.800 0.200 on\n")
    files = [str(tmp_path / "u1.TextGrid"), str(tmp_path / "ref.ctm")]
    assert is_silence(label) and not is_silence("silly")
    assert main(["score", *files]) == 0 and "WER  0.00" in capsys.readouterr().out
    assert main(["score-alignment", *files]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[1] == "4" and row[-2:] == ["0", "0"]  # edges, missing, extra

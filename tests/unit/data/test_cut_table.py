"""A large split as rows of text: the same cuts as lhotse's objects, and what is looked at in them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet, MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.cut_rows import is_plain, make_object, read_rows
from speechmm.data.cut_table import CutTable, spread
from speechmm.data.features import store_features
from speechmm.data.manifest import make_cut, read_cuts, write_cuts
from speechmm.data.skips import SkipReport

MakeAudio = Callable[..., Path]
MakeCuts = Callable[..., list[MonoCut]]
SPEEDS = [0.9, 1.0, 1.1, 1.37]


def table_of(path: Path) -> CutTable:
    table = CutTable()
    for row in read_rows(path, SkipReport(strict=True)):
        table.add(row)
    return table


def test_cuts_and_copies_are_those_of_lhotse(
    make_cuts: MakeCuts, make_audio: MakeAudio, tmp_path: Path
) -> None:
    path = make_audio("parts.wav", 4.0, rate=22050)
    cuts = [
        *make_cuts(1.0, 0.501, 0.83337),
        make_cut(id="part", audio=path, text="go", start=0.123, duration=1.23456),
    ]
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    table = table_of(tmp_path / "cuts.jsonl.gz").at_speeds(SPEEDS)
    wanted = [
        cut if factor == 1.0 else cut.perturb_speed(factor) for factor in SPEEDS for cut in cuts
    ]
    assert list(table) == wanted
    assert table.durations.tolist() == [cut.duration for cut in wanted]
    assert [table.id(index) for index in range(len(table))] == [cut.id for cut in wanted]
    assert table.by_id["part_sp1.1"] == wanted[11]
    assert "nobody" not in table.by_id
    kept = table.keep([cut.id.startswith("part") for cut in wanted])
    assert list(kept) == [cut for cut in wanted if cut.id.startswith("part")]


def test_what_a_sample_is_taken_from(make_cuts: MakeCuts) -> None:
    table = CutTable.of(make_cuts(*[0.1] * 25))
    assert [cut.id for cut in spread(table, 10)] == [f"utt-{i}" for i in range(0, 25, 2)]


def plain_rows(make_cuts: MakeCuts, make_audio: MakeAudio, folder: Path) -> list[dict[str, Any]]:
    """Rows as prepare and features write them: of one and of several channels, with features."""
    write_cuts(make_cuts(1.0, 0.5), folder / "train.jsonl")
    store_features(
        [folder / "train.jsonl"], folder / "store", LogMelConfig(n_mels=20), SkipReport()
    )
    cuts = list(read_cuts(folder / "store" / "train.jsonl"))
    stereo = make_cut(id="stereo", audio=make_audio("stereo.wav", 1.0, channels=2), text="go")
    return [cut.to_dict() for cut in (*make_cuts(1.0), stereo, *cuts)]


def test_rows_of_prepare_and_features_are_plain(
    make_cuts: MakeCuts, make_audio: MakeAudio, tmp_path: Path
) -> None:
    rows = plain_rows(make_cuts, make_audio, tmp_path)
    assert [is_plain(json.loads(json.dumps(row))) for row in rows] == [True] * 4


ODD = st.sampled_from(
    [None, True, -1, 0, 0.0, 1, 2.5, 1e300, "", "x", [], [0], [1], [0, 1], [0, "a"], {}, {"a": 1}]
)


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Every place in a row."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in items:
        below = isinstance(one, dict | list)
        found += places(one, (*at, key)) if below else [(*at, key)]
    return found


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    import numpy as np
    import soundfile

    folder = tmp_path_factory.mktemp("rows")

    def make_audio(name: str, seconds: float, *, channels: int = 1) -> Path:
        path = folder / name
        soundfile.write(path, np.full((round(16000 * seconds), channels), 0.1), 16000)
        return path

    def make_cuts(*seconds: float) -> list[MonoCut]:
        return [
            make_cut(id=f"u{i}", audio=make_audio(f"{i}.wav", one), text="go", speaker="s")
            for i, one in enumerate(seconds)
        ]

    return plain_rows(make_cuts, make_audio, folder)


@given(data=st.data())
def test_no_row_that_lhotse_refuses_is_plain(data: st.DataObject, rows: list[dict]) -> None:
    row = json.loads(json.dumps(data.draw(st.sampled_from(rows))))
    for _ in range(data.draw(st.integers(1, 2))):
        *above, last = data.draw(st.sampled_from(places(row)))
        target = row
        for key in above:
            target = target[key]
        if data.draw(st.booleans()) and isinstance(target, dict):
            target.pop(last)
        elif data.draw(st.booleans()):
            target[last] = data.draw(ODD)
        elif isinstance(target, dict):
            target["new"] = data.draw(ODD)
    if is_plain(row):
        from lhotse.qa import validate

        cut = make_object(json.loads(json.dumps(row)))
        validate(cut)
        assert isinstance(cut.to_dict(), dict)
        assert CutSet.from_cuts([cut])[0].sampling_rate > 0

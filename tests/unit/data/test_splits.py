"""Train, dev and test without a shared voice."""

from collections.abc import Callable

import pytest
from lhotse import MonoCut

from speechmm.data.skips import SkipReport
from speechmm.data.splits import draw_missing, split_by_speaker
from speechmm.errors import ConfigError

MakeCuts = Callable[..., list[MonoCut]]


def _with_speakers(cuts: list[MonoCut], names: list[str | None]) -> list[MonoCut]:
    for cut, name in zip(cuts, names, strict=True):
        cut.supervisions[0].speaker = name
    return cuts


def _speakers(cuts: list[MonoCut]) -> set[str]:
    return {cut.supervisions[0].speaker for cut in cuts}


@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_in_two_splits(seed: int, make_cuts: MakeCuts) -> None:
    cuts = _with_speakers(make_cuts(*[0.2] * 20), [f"s{index % 10}" for index in range(20)])
    splits = split_by_speaker(cuts, dev=0.1, test=0.2, seed=seed)
    assert list(splits) == ["train", "dev", "test"]
    assert [len(split) for split in splits.values()] == [14, 2, 4]
    voices = [_speakers(split) for split in splits.values()]
    assert len(set.union(*voices)) == sum(map(len, voices)) == 10


def test_order_of_the_corpus_does_not_matter(make_cuts: MakeCuts) -> None:
    cuts = make_cuts(*[0.2] * 9)
    assert split_by_speaker(cuts, seed=1) == split_by_speaker(cuts[::-1], seed=1)
    assert any(split_by_speaker(cuts, seed=s) != split_by_speaker(cuts, seed=0) for s in range(9))


@pytest.mark.parametrize("names", [["only"] * 10, [None] * 10, ["a", *[None] * 9]])
def test_by_recording_where_speakers_do_not_do(
    names: list[str | None], make_cuts: MakeCuts
) -> None:
    splits = split_by_speaker(_with_speakers(make_cuts(*[0.2] * 10), names), dev=0.2, test=0.1)
    assert [len(split) for split in splits.values()] == [7, 2, 1]


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, [0, 0, 0]), (1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])]
)
def test_tiny_corpora_train_first(count: int, sizes: list[int], make_cuts: MakeCuts) -> None:
    splits = split_by_speaker(make_cuts(*[0.2] * count))
    assert [len(split) for split in splits.values()] == sizes


def test_a_share_of_zero_stays_empty(make_cuts: MakeCuts) -> None:
    splits = split_by_speaker(make_cuts(*[0.2] * 6), dev=0.0, test=0.3)
    assert [len(split) for split in splits.values()] == [4, 0, 2]


@pytest.mark.parametrize(("dev", "test"), [(-0.1, 0.1), (0.5, 0.5), (1.0, 0.0)])
def test_impossible_shares(dev: float, test: float) -> None:
    with pytest.raises(ConfigError, match="sum below 1"):
        split_by_speaker([], dev=dev, test=test)


def test_one_unknown_speaker_mixes_no_others(make_cuts: MakeCuts) -> None:
    names = [f"s{index % 10}" for index in range(30)] + [None, None]
    cuts = _with_speakers(make_cuts(*[0.2] * 32), names)
    report = SkipReport()
    splits = draw_missing({"train": cuts}, report, dev=0.1, test=0.2, seed=0)
    voices = [_speakers(split) - {None} for split in splits.values()]
    assert len(set.union(*voices)) == sum(map(len, voices)) == 10
    assert sum(map(len, splits.values())) == 32
    how = "drawn from train by speaker, 2 utterances of unknown speakers by recording"
    assert report.remarks[0].endswith(how)

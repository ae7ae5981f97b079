"""What a training says at its end of its alignments."""

from pathlib import Path

import pytest

from speechmm.training.callbacks.self_check import check_alignments

pytestmark = pytest.mark.usefixtures("no_picture")


def test_a_training_says_how_far_its_alignments_are_to_be_trusted(shop) -> None:
    train, dev = shop.corpus("check-train", 4), shop.corpus("check-dev", 3)
    outcome = shop.fit(shop.config("check", train, dev))
    assert outcome.code == 0
    assert "alignments of 3 dev utterances: eight of ten word edges" in outcome.err
    assert check_alignments(shop.root / "runs" / "check" / "bundle", [dev]) in outcome.err
    alone = shop.config("alone", train, dev, model={"tasks": {"align": {"weight": 0.0}}})
    silent = shop.fit(alone)
    assert silent.code == 0
    assert "alignments" not in silent.err


def test_what_cannot_be_checked_ends_no_training(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, manifests: list[Path]) -> str:
        raise OSError("the disk is gone")

    monkeypatch.setattr("speechmm.training.callbacks.self_check.check_alignments", broken)
    train, dev = shop.corpus("broken-train", 4), shop.corpus("broken-dev", 2)
    outcome = shop.fit(shop.config("broken", train, dev))
    assert outcome.code == 0
    assert "not checked (the disk is gone)" in outcome.err

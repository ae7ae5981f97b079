"""The picture of a training shows all of it."""

from pathlib import Path

import pytest

from speechmm.training.callbacks.metrics import read_metrics


def test_the_last_epoch_is_drawn(shop, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def draw(table: Path, picture: Path) -> None:
        drawn.append(len(read_metrics(table).get("train/loss", [])))

    monkeypatch.setattr("speechmm.training.callbacks.curves.draw_curves", draw)
    train, dev = shop.corpus("curves-train", 4), shop.corpus("curves-dev", 2)
    config = shop.config("curves", train, dev, trainer={"max_epochs": 3})
    assert shop.fit(config).code == 0
    assert drawn[-1] == 3

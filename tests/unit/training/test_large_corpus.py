"""A corpus too large to be read before its training: unreadable utterances are left out later."""

from pathlib import Path

import pytest

from speechmm.data import sampling
from speechmm.data.manifest import write_cuts
from speechmm.models.bundle import load_bundle
from speechmm.training import data_module

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "READ_FIRST_CUTS", 0)
    monkeypatch.setattr(sampling, "SAMPLER_BUFFER", 0)


def spoilt_corpus(shop, name: str) -> Path:
    """Seven utterances, of which three cannot be read; one of these fills a batch alone."""
    cuts = [shop.cut(f"{name}-{i}", 0.6 + 0.1 * i) for i in range(6)]
    cuts.append(shop.cut(f"{name}-long", 4.0))
    for spoilt in ("1", "4", "long"):
        (shop.root / "audio" / f"{name}-{spoilt}.wav").write_bytes(b"no audio at all" * 100)
    path = shop.root / f"{name}.jsonl"
    write_cuts(cuts, path)
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_left_out_and_named_once(shop, workers: int) -> None:
    name = f"spoilt-{workers}"
    train, dev = spoilt_corpus(shop, name), shop.corpus(f"dev-{workers}", 2)
    data = {"speeds": [1.0, 1.1], "num_workers": workers}
    config = shop.config(f"large-{workers}", train, dev, data=data, trainer={"max_epochs": 2})
    outcome = shop.fit(config)
    assert outcome.code == 3, outcome.err
    assert set(outcome.skipped) == {f"{name}-1", f"{name}-4", f"{name}-long"}
    assert all(".wav: it is not audio" in reason for reason in outcome.skipped.values())
    assert outcome.err.splitlines()[-1] == "3 of 9 utterances skipped"
    load_bundle(shop.root / "runs" / f"large-{workers}" / "bundle")


def test_strict_ends_at_the_first(shop) -> None:
    train, dev = spoilt_corpus(shop, "strictly"), shop.corpus("strict-dev", 2)
    mistake = shop.fit(shop.config("strictly", train, dev, data={"strict": True})).mistake
    assert ".wav: it is not audio" in mistake


def test_a_corpus_that_is_gone_is_said_at_once(shop) -> None:
    train, dev = shop.corpus("gone", 3), shop.corpus("gone-dev", 2)
    for path in (shop.root / "audio").glob("gone-[0-9].wav"):
        path.unlink()
    mistake = shop.fit(shop.config("gone", train, dev)).mistake
    assert "none of 3 utterances that were tried can be read" in mistake

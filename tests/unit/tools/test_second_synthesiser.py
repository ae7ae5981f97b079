"""tools/second_synthesiser.py: a corpus spoken by flite and festival."""

import shutil
from ctypes.util import find_library
from itertools import pairwise

import numpy as np
import pytest

from speechmm.alignments import Segment
from speechmm.data.manifest import read_cuts, reference_alignment

TINY = ["--train", "1", "--dev", "1", "--test", "1"]


def test_manifests_hold_the_times_of_the_synthesiser(load_tool, tmp_path, monkeypatch):
    tool = load_tool("second_synthesiser")

    def beep(orders):
        for order in orders:
            labels = order.text.replace("'", "").split()
            words = [Segment(label=w, start=i / 4, end=(i + 1) / 4) for i, w in enumerate(labels)]
            tone = np.sin(np.arange(4000 * len(words)) / 8).astype(np.float32)
            yield tool.Speech(tone, 16_000, words, [])

    monkeypatch.setattr(tool, "say", beep)
    tool.main([str(tmp_path), *TINY])
    cuts = list(read_cuts(tmp_path / "train.jsonl.gz"))
    assert len(cuts) == len(tool.TRAINED)
    for cut in cuts:
        words = reference_alignment(cut).words
        assert np.allclose([word.duration for word in words], 0.25)
        assert 0 <= words[0].start <= 0.3
    assert {cut.supervisions[0].speaker for cut in read_cuts(tmp_path / "test.jsonl.gz")} == set(
        tool.HELD_OUT
    )


@pytest.mark.skipif(
    shutil.which("festival") is None or find_library("flite") is None,
    reason="needs Debian's flite and festival with their voices",
)
def test_both_synthesisers_speak(load_tool, tmp_path):
    tool = load_tool("second_synthesiser")
    tool.main([str(tmp_path), *TINY])
    cuts = list(read_cuts(tmp_path / "train.jsonl.gz"))
    assert {cut.supervisions[0].speaker for cut in cuts} == set(tool.TRAINED)
    for cut in cuts:
        words = reference_alignment(cut).words
        assert all(before.end <= after.start + 0.001 for before, after in pairwise(words))
        assert words[-1].end <= cut.duration

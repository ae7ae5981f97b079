"""Frames of an encoder are found by the sound of a cut, whatever it is called."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lhotse import MonoCut

from speechmm.data.manifest import make_cut
from speechmm.data.stored_frames import StoredFrames
from speechmm.errors import ManifestError

MakeAudio = Callable[..., Path]


def cuts_of_one_id(make_audio: MakeAudio) -> list[MonoCut]:
    """Of two sets, as docs/mixing.md allows it."""
    return [
        make_cut(id="0001", audio=make_audio(f"{split}/0001.wav", seconds), text="go")
        for split, seconds in (("train", 1.0), ("dev", 2.0))
    ]


def test_cuts_of_one_id_have_their_own_frames(make_audio: MakeAudio, tmp_path: Path) -> None:
    cuts = cuts_of_one_id(make_audio)
    store = StoredFrames(tmp_path / "frames", 4)
    for cut in cuts:
        store.save(cut, torch.full((round(cut.duration * 50), 4), cut.duration))
    for again in (store, StoredFrames(tmp_path / "frames", 4)):
        found = [again.load(cut) for cut in cuts]
        assert [frames.shape for frames in found] == [(50, 4), (100, 4)]
        assert [float(frames[0, 0]) for frames in found] == [1.0, 2.0]


def test_one_sound_is_stored_once(make_audio: MakeAudio, tmp_path: Path) -> None:
    cut = cuts_of_one_id(make_audio)[0]
    store = StoredFrames(tmp_path / "frames", 4)
    assert store.path(cut) == store.path(cut.with_id("replay:0001"))
    assert store.path(cut) != store.path(cut.perturb_speed(1.1))
    assert store.path(cut) != store.path(cut.truncate(offset=0.2, duration=0.5))
    with pytest.raises(ManifestError, match="its stored frames"):
        store.load(cut)

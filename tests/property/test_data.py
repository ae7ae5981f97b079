"""Any corpus at all: manifests come back, samplers give every utterance once, splits are disjoint."""

import itertools
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from speechmm.data.manifest import read_cuts, write_cuts
from speechmm.data.sampling import duration_bins, make_sampler
from speechmm.data.splits import split_by_speaker

SAMPLES = st.integers(min_value=160, max_value=30 * 16000)  # 10 ms to 30 s
TEXT = st.text(max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def make(index: int, samples: int, *, text: str = "", speaker: str | None = None) -> MonoCut:
    duration = samples / 16000
    source = AudioSource("file", [0], f"/corpus/{index}.wav")
    supervision = SupervisionSegment(
        f"c{index}",
        f"r{index}",
        0.0,
        duration,
        text=text,
        speaker=speaker,
        alignment={"word": [AlignmentItem(text, 0.0, duration / 2, 0.5)]},
    )
    recording = Recording(f"r{index}", [source], 16000, samples, duration)
    return MonoCut(f"c{index}", 0.0, duration, 0, [supervision], recording=recording)


@given(st.lists(st.tuples(SAMPLES, TEXT, NAMES), min_size=1, max_size=5), st.booleans())
def test_a_manifest_reads_as_it_was_written(rows: list[tuple[int, str, str]], packed: bool) -> None:
    cuts = [make(i, samples, text=text, speaker=who) for i, (samples, text, who) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("cuts.jsonl.gz" if packed else "cuts.jsonl")
        write_cuts(cuts, path)
        assert list(read_cuts(path)) == cuts


@given(
    st.lists(SAMPLES, min_size=1, max_size=60),
    st.floats(min_value=1.0, max_value=200.0),
    st.booleans(),
    st.integers(0, 3),
)
@pytest.mark.filterwarnings("ignore:We have exceeded the max_duration")
@pytest.mark.filterwarnings("ignore:The first cut drawn in batch collection violates")
def test_every_utterance_once_an_epoch(
    samples: list[int], batch_seconds: float, shuffle: bool, epoch: int
) -> None:
    cuts = [make(index, count) for index, count in enumerate(samples)]
    seconds = {cut.id: cut.duration for cut in cuts}
    sampler = make_sampler(cuts, batch_seconds, shuffle=shuffle, seed=7)
    sampler.set_epoch(epoch)
    batches = [list(batch.ids) for batch in sampler]
    assert Counter(itertools.chain(*batches)) == Counter(list(seconds))
    durations = [[seconds[id] for id in batch] for batch in batches]
    padded = sum(max(row) * len(row) for row in durations)
    assert 1 - sum(seconds.values()) / padded <= 0.15


@given(st.lists(SAMPLES, min_size=1, max_size=300))
def test_buckets_bound_the_padding(samples: list[int]) -> None:
    durations = [count / 16000 for count in samples]
    tops = [*duration_bins(durations), max(durations)]
    assert tops == sorted(set(tops))
    padded = sum(min(top for top in tops if top >= value) for value in durations)
    assert 1 - sum(durations) / padded <= 0.10 + 1e-9


@given(
    st.lists(st.tuples(SAMPLES, st.sampled_from(["a", "b", "c", "d", None])), max_size=30),
    st.floats(0, 0.45),
    st.floats(0, 0.45),
    st.integers(0, 5),
)
def test_splits_are_disjoint_and_whole(
    rows: list[tuple[int, str | None]], dev: float, test: float, seed: int
) -> None:
    cuts = [make(index, samples, speaker=who) for index, (samples, who) in enumerate(rows)]
    splits = split_by_speaker(cuts, dev=dev, test=test, seed=seed)
    assert Counter(cut.id for split in splits.values() for cut in split) == Counter(
        cut.id for cut in cuts
    )
    assert bool(splits["train"]) == bool(cuts)
    speakers = {who for _, who in rows}
    if None not in speakers and len(speakers) >= 3:
        voices = [{cut.supervisions[0].speaker for cut in split} for split in splits.values()]
        assert sum(map(len, voices)) == len(speakers)

"""From cuts to batches, and which cuts a training cannot use."""

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut
from torch.utils.data import DataLoader

from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.batch import Batch, WaveformBatch, next_of_few
from speechmm.data.cut_table import CutTable
from speechmm.data.dataset import SpeechDataset
from speechmm.data.features import store_features
from speechmm.data.manifest import make_cut, read_cuts, write_cuts
from speechmm.data.plan import BatchPlan, Piece, PlannedUtterance
from speechmm.data.sampling import make_sampler
from speechmm.data.skips import SkipReport
from speechmm.data.usable import MAX_UTTERANCE_SECONDS, TextCheck, read_usable
from speechmm.data.waveforms import load_waveform
from speechmm.errors import AudioError, ConfigError, ManifestError
from speechmm.text.tokenizer import Tokenizer


def check_cuts(
    cuts: Iterable[MonoCut],
    tokenizer: Tokenizer,
    features: LogMelConfig,
    subsampling: int,
    *,
    max_seconds: float = MAX_UTTERANCE_SECONDS,
    read_audio: bool = True,
) -> tuple[list[MonoCut], SkipReport]:
    """What a training finds good, and why not the others."""
    report = SkipReport()
    with TemporaryDirectory() as folder:
        write_cuts(cuts, Path(folder) / "cuts.jsonl")
        check = TextCheck(tokenizer, features, subsampling, max_seconds)
        found = read_usable([f"{folder}/cuts.jsonl"], check, report)
    if read_audio:
        found.leave_out_unreadable(features, report)
    return list(found.cuts), report


MakeAudio = Callable[..., Path]
MakeCuts = Callable[..., list[MonoCut]]


@pytest.fixture
def dataset(tokenizer: Tokenizer, features: LogMelConfig) -> SpeechDataset:
    return SpeechDataset(tokenizer, features)


def test_words_to_align_are_those_of_the_text_as_written(
    dataset: SpeechDataset, make_cuts: MakeCuts, tokenizer: Tokenizer
) -> None:
    batch = dataset[CutSet.from_cuts(make_cuts(1.0, text="Go-home - go"))]
    aligned = tokenizer.encode_aligned(batch.texts[0])
    assert aligned.words == ["Go-home", "-", "go"]
    assert batch.align_tokens[0].tolist() == aligned.ids
    assert batch.tokens[0].tolist() == tokenizer.encode("go home go")


def test_a_batch_of_two(
    dataset: SpeechDataset, make_cuts: MakeCuts, tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    cuts = make_cuts(1.0, 0.5, text="Go, HOME!")
    batch = dataset[CutSet.from_cuts(cuts)]
    assert batch.ids == ["utt-0", "utt-1"]
    assert batch.features.shape == (2, 101, 20)
    assert batch.feature_lengths.tolist() == [101, 51]
    assert batch.texts == ["Go, HOME!", "Go, HOME!"]
    assert batch.seconds == 1.5
    assert batch.tokens[0].tolist() == tokenizer.encode("go home")
    assert batch.align_tokens[1].tolist() == tokenizer.encode_aligned("go home").ids
    assert batch.token_lengths.tolist() == [7, 7]
    for row, cut in enumerate(cuts):
        frames = compute_log_mel(load_waveform(cut, 16000), features)
        assert torch.equal(batch.features[row, : len(frames)], frames)
        assert not batch.features[row, len(frames) :].any()
    reference = batch.references[1]
    assert reference is not None
    assert [(word.label, word.start) for word in reference.words] == [("go", 0.1), ("home", 0.4)]


def test_padding_and_company_change_nothing(dataset: SpeechDataset, make_cuts: MakeCuts) -> None:
    cuts = make_cuts(0.4, 1.2, 0.8)
    together = dataset[CutSet.from_cuts(cuts)]
    for row, cut in enumerate(cuts):
        alone = dataset[CutSet.from_cuts([cut])]
        length = int(together.feature_lengths[row])
        assert torch.equal(alone.features[0], together.features[row, :length])


def test_workers_give_the_same_batches(dataset: SpeechDataset, make_cuts: MakeCuts) -> None:
    cuts = make_cuts(0.4, 0.5, 0.6, 0.9, 1.0)
    loaders = [
        DataLoader(
            dataset,
            batch_size=None,
            sampler=make_sampler(cuts, 1.5, shuffle=True, seed=3),
            num_workers=workers,
        )
        for workers in (0, 2)
    ]
    for mine, theirs in zip(*loaders, strict=True):
        assert mine.ids == theirs.ids
        assert torch.equal(mine.features, theirs.features)
        assert mine.references == theirs.references


def test_missing_audio_is_an_error(dataset: SpeechDataset, make_cuts: MakeCuts) -> None:
    cuts = make_cuts(0.5)
    Path(cuts[0].recording.sources[0].source).unlink()
    with pytest.raises(AudioError, match=r"0\.wav"):
        dataset[CutSet.from_cuts(cuts)]


def test_features_in_memory_are_not_read_again(
    make_cuts: MakeCuts, tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    cuts = make_cuts(1.0, 0.5)
    room = 101 * features.n_mels * 4
    dataset = SpeechDataset(tokenizer, features, cache_bytes=room)
    first = dataset[CutSet.from_cuts(cuts)]
    first.features.zero_()  # what a caller does to a batch does not reach the memory
    Path(cuts[0].recording.sources[0].source).unlink()
    alone = dataset[CutSet.from_cuts(cuts[:1])]
    assert alone.features.abs().sum() > 0
    Path(cuts[1].recording.sources[0].source).unlink()
    with pytest.raises(AudioError, match=r"1\.wav"):  # there was no room for this one
        dataset[CutSet.from_cuts(cuts)]


@pytest.fixture
def stored(make_cuts: MakeCuts, features: LogMelConfig, tmp_path: Path) -> list[MonoCut]:
    write_cuts(make_cuts(1.0, 0.5), tmp_path / "train.jsonl")
    store_features([tmp_path / "train.jsonl"], tmp_path / "store", features, SkipReport())
    return list(read_cuts(tmp_path / "store" / "train.jsonl"))


def test_stored_features_are_those_of_the_audio(
    stored: list[MonoCut], dataset: SpeechDataset
) -> None:
    with_store = dataset[CutSet.from_cuts(stored)]
    from_audio = dataset[CutSet.from_cuts(cut.drop_features() for cut in stored)]
    assert torch.equal(with_store.features, from_audio.features)
    assert torch.equal(with_store.feature_lengths, from_audio.feature_lengths)


def test_stored_features_of_other_settings_are_refused(
    stored: list[MonoCut], tokenizer: Tokenizer
) -> None:
    other = LogMelConfig(n_mels=20, f_min=50.0)
    with pytest.raises(ManifestError, match="made with other settings"):
        SpeechDataset(tokenizer, other)[CutSet.from_cuts(stored)]
    good, report = check_cuts(stored, tokenizer, other, 4)
    assert (len(good), len(report)) == (0, 2)


def test_speeds_go_back_to_the_audio_and_leave_the_store_alone(
    stored: list[MonoCut], tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    cuts = CutTable.of(stored).at_speeds([0.9, 1.0, 1.1])
    assert [cut.id for cut in cuts][::2] == ["utt-0_sp0.9", "utt-0", "utt-0_sp1.1"]
    assert [cut.has_features for cut in cuts] == [False, False, True, True, False, False]
    assert all(cut.has_features for cut in stored)
    good, report = check_cuts(cuts, tokenizer, features, 4)
    assert (len(good), len(report)) == (6, 0)
    batch = SpeechDataset(tokenizer, features)[good]
    assert batch.feature_lengths.tolist() == [112, 56, 101, 51, 91, 46]


@pytest.mark.parametrize("factors", [[], [1.0, 1.0], [0.0], [-1.0, 1.0]])
def test_bad_speeds(factors: list[float], make_cuts: MakeCuts) -> None:
    with pytest.raises(ConfigError, match=r"speeds: found \["):
        CutTable.of(make_cuts(0.5)).at_speeds(factors)


def test_good_cuts_stay_in_order(
    make_cuts: MakeCuts, tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    cuts = make_cuts(1.0, 0.5, 0.8)
    good, report = check_cuts(CutSet.from_cuts(cuts), tokenizer, features, 4)
    assert list(good) == cuts
    assert report.items == []


def _spoil(path: Path, kind: str) -> None:
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no audio")
    elif kind == "nan":
        samples = np.full(16000, 0.1, dtype="float32")
        samples[8000] = np.nan
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    elif kind == "zero-length":
        soundfile.write(path, np.zeros(0, dtype="float32"), 16000)
    elif kind == "cut-flac":
        noise = np.random.default_rng(0).normal(0, 0.1, 16000)
        soundfile.write(path, noise, 16000, format="FLAC")
        path.write_bytes(path.read_bytes()[:-5000])


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "nan", "zero-length", "cut-flac"])
def test_bad_audio_among_good_ones(
    kind: str, make_cuts: MakeCuts, tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    cuts = make_cuts(1.0, 1.0, 1.0)
    _spoil(Path(cuts[1].recording.sources[0].source), kind)
    good, report = check_cuts(cuts, tokenizer, features, 4)
    assert [cut.id for cut in good] == ["utt-0", "utt-2"]
    assert [item for item, _ in report.items] == ["utt-1"]
    assert "1.wav" in report.items[0][1]
    good, report = check_cuts(cuts, tokenizer, features, 4, read_audio=False)
    assert len(good) == 3


@pytest.mark.parametrize(
    ("text", "seconds", "reason"),
    [
        ("", 1.0, "its text is empty"),
        (" ?! ", 1.0, "its text is empty"),
        ("xyz", 1.0, "the tokenizer knows nothing of its text 'xyz'"),
        ("go home now", 0.3, r"its 0.30 s are too short for its 11 tokens; expected at least 0.40"),
        ("go home", 3.5, r"it lasts 3.5 s; expected at most 3 s. Segment it"),
    ],
)
def test_bad_texts_and_lengths(
    text: str, seconds: float, reason: str, make_cuts: MakeCuts, dataset: SpeechDataset
) -> None:
    cuts = make_cuts(seconds, text=text)
    good, report = check_cuts(cuts, dataset.tokenizer, dataset.features, 4, max_seconds=3.0)
    assert len(good) == 0
    assert report.items[0][1].startswith(reason)


def test_partly_unknown_text_can_be_trained_on(
    make_cuts: MakeCuts, tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    good, report = check_cuts(make_cuts(1.0, text="go zoo"), tokenizer, features, 4)
    assert (len(good), len(report)) == (1, 0)


@pytest.mark.parametrize("subsampling", [2, 4, 8])
@pytest.mark.parametrize("text", ["go home", "goo ww", "o o"])
def test_too_short_is_exactly_where_ctc_becomes_impossible(
    subsampling: int,
    text: str,
    make_audio: MakeAudio,
    tokenizer: Tokenizer,
    features: LogMelConfig,
) -> None:
    """The oracle is torch: an impossible CTC alignment has an infinite loss."""
    path = make_audio("a.wav", 2.0)
    tokens = torch.tensor([tokenizer.encode(text)])
    floor = len(tokenizer.encode_aligned(text).ids)  # the aligner's frames are 10 ms
    for hundredths in range(2, 100):
        cut = make_cut(id="x", audio=path, text=text, duration=hundredths / 100)
        frames = features.num_frames(round(cut.duration * 16000))
        enc_frames = -(-frames // subsampling)
        log_probs = torch.zeros(enc_frames, 1, tokenizer.vocab_size).log_softmax(-1)
        loss = torch.nn.functional.ctc_loss(
            log_probs, tokens, torch.tensor([enc_frames]), torch.tensor([tokens.shape[1]])
        )
        good, _ = check_cuts([cut], tokenizer, features, subsampling, read_audio=False)
        assert bool(len(good)) == (bool(loss.isfinite()) and frames >= floor)


def test_a_device_computes_the_same_features_from_audio(
    make_cuts: MakeCuts, make_audio: MakeAudio, tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    """Whole utterances, pieces and several in a row, at every speed, from 16 bits and from floats."""
    cuts = list(CutTable.of(make_cuts(1.0, 0.5, 0.8)).at_speeds([0.9, 1.0, 1.1]))
    path = make_audio("narrow.wav", 1.2)
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    cuts.append(make_cut(id="narrow", audio=path, text="go", start=0.2, duration=0.9))
    pieces = tuple(Piece(cut, (0, 1), 10, 10 + 4 * i) for i, cut in enumerate(cuts, start=1))
    rows = [[PlannedUtterance(cut)] for cut in cuts]
    rows += [[PlannedUtterance(cuts[0], pieces)], [PlannedUtterance(cut) for cut in cuts[:4]]]
    plan = BatchPlan(rows)
    here = SpeechDataset(tokenizer, features, round_up=next_of_few)[plan]
    handed = SpeechDataset(tokenizer, features, 1 << 30, waveforms=True, round_up=next_of_few)[plan]
    assert isinstance(here, Batch)
    assert isinstance(handed, WaveformBatch)
    there = handed.to("cpu", non_blocking=True).with_features(features)
    assert there.features.shape == here.features.shape
    assert torch.allclose(there.features, here.features, atol=2e-4)
    for name in ("feature_lengths", "tokens", "align_tokens", "align_lengths"):
        assert torch.equal(getattr(there, name), getattr(here, name)), name
    assert (there.texts, there.ids, there.frames) == (here.texts, here.ids, here.frames)
    longest = max(here.frames)
    exact = SpeechDataset(tokenizer, features)[plan]
    assert torch.equal(exact.features, here.features[:, :longest])
    assert not here.features[:, longest:].any()


def test_copies_at_other_speeds_share_one_recording_in_memory(
    make_cuts: MakeCuts, tokenizer: Tokenizer, features: LogMelConfig
) -> None:
    cuts = CutTable.of(make_cuts(1.0, 0.5)).at_speeds([0.9, 1.0, 1.1])
    dataset = SpeechDataset(tokenizer, features, 1 << 20, waveforms=True)
    dataset[cuts]
    assert len(dataset._cache) == 2


def test_a_started_process_gives_the_same_batches(
    dataset: SpeechDataset, make_cuts: MakeCuts
) -> None:
    """As a training on a GPU reads: processes that are not forked from it, page-locking left out."""
    cuts = make_cuts(0.4, 0.5)
    samplers = [make_sampler(cuts, 1.5, shuffle=True, seed=3) for _ in range(2)]
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=samplers[0],
        num_workers=1,
        multiprocessing_context="forkserver",
    )
    for mine, theirs in zip(loader, map(dataset.__getitem__, samplers[1]), strict=True):
        assert mine.ids == theirs.ids
        assert torch.equal(mine.features, theirs.features)

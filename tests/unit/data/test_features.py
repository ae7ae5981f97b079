"""The feature store: exact, tied to its settings, left alone when nothing has changed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet, MonoCut
from lhotse.qa import validate

from speechmm.audio.cmvn import CmvnStats
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.features import check_features, feature_type, load_features, store_features
from speechmm.data.manifest import make_cut, read_cuts, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import load_waveform
from speechmm.errors import ConfigError, ManifestError

MakeCuts = Callable[..., list[MonoCut]]


@pytest.fixture
def manifests(make_cuts: MakeCuts, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "train.jsonl.gz", tmp_path / "dev.jsonl.gz"]
    cuts = make_cuts(1.0, 0.5, 0.77, 0.31)
    cuts[1].id = "../ö / 'odd'\\id.npy"
    write_cuts(cuts[:3], paths[0])
    write_cuts(cuts[3:], paths[1])
    return paths


def _files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_store_is_exact_and_valid(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    summary = store_features(manifests, tmp_path / "out", features, SkipReport())
    assert (summary.stored, summary.unchanged) == (4, False)
    frames = []
    for manifest in manifests:
        originals = read_cuts(manifest)
        stored = CutSet.from_file(tmp_path / "out" / manifest.name)
        assert list(stored.ids) == list(originals.ids)
        for cut, original in zip(stored, originals, strict=True):
            validate(cut.features, read_data=True)
            expected = compute_log_mel(load_waveform(original, 16000), features)
            assert torch.equal(load_features(cut, features), expected)
            assert np.array_equal(cut.features.load(), expected.numpy())
            assert cut.drop_features() == original
            if manifest is manifests[0]:
                frames.append(expected)
    stats = CmvnStats.load(tmp_path / "out" / "cmvn.json")
    everything = torch.cat(frames)
    assert stats.frames == len(everything)
    assert torch.allclose(stats.mean, everything.mean(0), atol=1e-4)
    assert torch.allclose(stats.std, everything.std(0, correction=0), atol=1e-4)
    for path in (tmp_path / "out").rglob("*"):
        assert path.resolve().is_relative_to(tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "features.json").read_text())
    assert settings["made_from"]["settings"]["n_mels"] == 20


def test_worker_processes_give_the_same(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    for workers in (0, 2):
        store_features(
            manifests, tmp_path / f"{workers}", features, SkipReport(), num_workers=workers
        )
    pairs = [read_cuts(tmp_path / f"{workers}" / "train.jsonl.gz") for workers in (0, 2)]
    for left, right in zip(*pairs, strict=True):
        assert torch.equal(load_features(left, features), load_features(right, features))


def test_rerun_changes_nothing(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    store_features(manifests, tmp_path / "out", features, SkipReport())
    before = _files(tmp_path / "out")
    summary = store_features(manifests, tmp_path / "out", features, SkipReport())
    assert (summary.stored, summary.unchanged) == (4, True)
    assert _files(tmp_path / "out") == before


def test_other_settings_replace_the_store(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    store_features(manifests, tmp_path / "out", features, SkipReport())
    other = LogMelConfig(n_mels=10)
    summary = store_features(manifests[:1], tmp_path / "out", other, SkipReport())
    assert (summary.stored, summary.unchanged) == (3, False)
    assert not (tmp_path / "out" / "dev.jsonl.gz").exists()
    assert len(list((tmp_path / "out").glob("log-mel-*"))) == 1
    (cut, *_) = read_cuts(tmp_path / "out" / "train.jsonl.gz")
    assert load_features(cut, other).shape == (101, 10)
    with pytest.raises(ManifestError, match="made with other settings"):
        load_features(cut, features)


def test_a_changed_or_lost_file_is_made_again(
    manifests: list[Path], features: LogMelConfig, make_cuts: MakeCuts, tmp_path: Path
) -> None:
    store_features(manifests, tmp_path / "out", features, SkipReport())
    (tmp_path / "out" / "cmvn.json").unlink()
    assert not store_features(manifests, tmp_path / "out", features, SkipReport()).unchanged
    write_cuts(make_cuts(0.9), manifests[1])
    assert not store_features(manifests, tmp_path / "out", features, SkipReport()).unchanged
    assert store_features(manifests, tmp_path / "out", features, SkipReport()).unchanged


def test_bad_audio_is_skipped_and_remembered(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    (tmp_path / "audio" / "2.wav").write_text("no audio")
    for unchanged in (False, True):
        report = SkipReport()
        summary = store_features(manifests, tmp_path / "out", features, report)
        assert (summary.stored, summary.unchanged) == (3, unchanged)
        assert [item for item, _ in report.items] == ["utt-2"]
        assert "2.wav" in report.items[0][1]
    with pytest.raises(ManifestError, match=r"utt-2.*2\.wav"):
        store_features(manifests, tmp_path / "out", features, SkipReport(strict=True))


def test_nothing_to_store(manifests: list[Path], features: LogMelConfig, tmp_path: Path) -> None:
    (tmp_path / "audio" / "3.wav").unlink()
    with pytest.raises(ManifestError, match=r"dev.jsonl.gz: no utterance could be stored .*3\.wav"):
        store_features(manifests, tmp_path / "out", features, SkipReport())
    assert not (tmp_path / "out" / "features.json").exists()
    assert not (tmp_path / "out" / "train.jsonl.gz").exists()


def test_names_that_clash(manifests: list[Path], features: LogMelConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected different file names"):
        store_features([manifests[0], manifests[0]], tmp_path / "out", features, SkipReport())
    with pytest.raises(ConfigError, match="the store would overwrite it"):
        store_features(manifests, tmp_path, features, SkipReport())


def test_damaged_or_missing_arrays(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    store_features(manifests, tmp_path / "out", features, SkipReport())
    (cut, *_) = read_cuts(tmp_path / "out" / "train.jsonl.gz")
    path = Path(cut.features.storage_path) / cut.features.storage_key
    whole = path.read_bytes()
    array = np.load(path)
    damaged = [whole[:-100], whole.replace(b"(", b"((((", 1), b"", b"PK\x05\x06" + bytes(18)]
    for other in (
        array[:, :-1],
        array.astype(np.complex64),
        array * np.nan,
        array.astype(">f4")[:3],
    ):
        np.save(path, other)
        damaged.append(path.read_bytes())
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ManifestError, match="its features are damaged"):
            load_features(cut, features)
    path.unlink()
    with pytest.raises(ManifestError, match="its stored features are not in"):
        load_features(cut, features)


def test_features_of_another_span(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    store_features(manifests, tmp_path / "out", features, SkipReport())
    (cut, *_) = read_cuts(tmp_path / "out" / "train.jsonl.gz")
    check_features(cut, features)
    with pytest.raises(ManifestError, match="have 101 frames; expected 51"):
        check_features(cut.truncate(duration=0.5), features)


def test_features_of_a_file_that_is_a_little_shorter(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    """Decoders of mp3 give some samples more or less: what the store takes is taken from it."""
    store_features(manifests, tmp_path / "out", features, SkipReport())
    (cut, *_) = read_cuts(tmp_path / "out" / "train.jsonl.gz")
    for duration in (0.92, 1.08):
        cut.duration = duration
        check_features(cut, features)
    cut.duration = 1.2
    with pytest.raises(ManifestError, match="have 101 frames; expected 121"):
        check_features(cut, features)


def test_statistics_are_those_of_the_manifest_that_is_named_first(
    manifests: list[Path], features: LogMelConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    store_features(manifests, out, features, SkipReport())
    first = (out / "cmvn.json").read_bytes()
    assert not store_features(manifests[::-1], out, features, SkipReport()).unchanged
    assert (out / "cmvn.json").read_bytes() != first


def test_every_setting_gives_another_name() -> None:
    names = {
        feature_type(LogMelConfig(**setting))  # type: ignore[arg-type]
        for setting in ({}, {"f_min": 20.0}, {"win_length": 320}, {"n_mels": 40})
    }
    assert len(names) == 4


def test_segments_of_one_recording(
    make_audio: Callable[..., Path], features: LogMelConfig, tmp_path: Path
) -> None:
    path = make_audio("long.wav", 3.0)
    cuts = [
        make_cut(id=f"{start}", audio=path, text="a", start=start, duration=0.5)
        for start in (0.0, 1.0, 2.5)
    ]
    write_cuts(cuts, tmp_path / "train.jsonl")
    store_features([tmp_path / "train.jsonl"], tmp_path / "out", features, SkipReport())
    for stored, cut in zip(read_cuts(tmp_path / "out" / "train.jsonl"), cuts, strict=True):
        expected = compute_log_mel(load_waveform(cut, 16000), features)
        assert torch.equal(load_features(stored, features), expected)

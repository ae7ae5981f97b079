"""Lhotse Shar: what is written is what lhotse reads, and the same audio, texts and batches come back."""

import gc
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut
from lhotse.shar import SharWriter
from lhotse.supervision import AlignmentItem
from torch.utils.data import DataLoader

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data import large_sampling
from speechmm.data.cut_rows import read_rows
from speechmm.data.cut_table import CutTable, spread
from speechmm.data.dataset import SpeechDataset
from speechmm.data.features import store_features
from speechmm.data.fingerprint import audio_digest, audio_files, content_digest
from speechmm.data.manifest import cut_text, make_cut, read_cuts, reference_alignment, write_cuts
from speechmm.data.sampling import make_sampler
from speechmm.data.shar_writing import write_shar
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import load_waveform
from speechmm.errors import AudioError, ManifestError
from speechmm.files import archives
from speechmm.files.shar import is_shar
from speechmm.text.tokenizer import Tokenizer

MakeAudio = Callable[..., Path]
MakeCuts = Callable[..., list[MonoCut]]
NAMES = ("plain", "a/b/c", "zoë 训练", "x" * 150, "two.dots.json")


def shar_of(cuts: list[MonoCut], folder: Path, size: int) -> Path:
    folder.mkdir()
    assert write_shar(cuts, folder, size, SkipReport(strict=True)) == cuts
    return folder


def table_of(path: Path) -> CutTable:
    table = CutTable()
    for row in read_rows(path, SkipReport(strict=True)):
        table.add(row)
    return table


def all_kinds(make_audio: MakeAudio, folder: Path) -> list[MonoCut]:
    """Cuts of 16 and 24 bits and floats, of one and several channels, whole files and parts."""
    noise = np.random.default_rng(0).normal(0, 0.1, (16000, 3)).clip(-1, 1)
    kinds = {"PCM_16": 1, "PCM_24": 1, "FLOAT": 1, "LOUD": 1, "STEREO": 2, "THREE": 3}
    cuts = []
    for kind, channels in kinds.items():
        path = folder / f"{kind}.wav"
        subtype = kind if "_" in kind else "PCM_16" if channels == 2 else "FLOAT"
        samples = noise[:, :channels] * (20 if kind == "LOUD" else 1)
        soundfile.write(path, samples, 16000, subtype=subtype)
        cuts.append(make_cut(id=kind, audio=path, text=f"go {kind}"))
    cuts.append(make_cut(id="second", audio=folder / "STEREO.wav", text="go", channel=1))
    long = make_audio("long.wav", 5.0, rate=22050)
    words = {"word": [AlignmentItem("go", 1.5, 0.2), AlignmentItem("home", 1.9, 0.3)]}
    for number, name in enumerate(NAMES):
        start = 1.2345 + number * 0.1
        cut = make_cut(
            id=name, audio=long, text="go home", speaker="s", start=start, duration=1.111,
            alignment=words,
        )  # fmt: skip
        cuts.append(cut)
    return cuts


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # lhotse leaves it to chance
def test_what_is_read_is_what_was_written_also_by_lhotse(
    make_audio: MakeAudio, tmp_path: Path
) -> None:
    cuts = all_kinds(make_audio, tmp_path)
    folder = shar_of(cuts, tmp_path / "100 %d.shar", 4)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.{number:06d}.{suffix}"
        for name, suffix in (("cuts", "jsonl.gz"), ("recording", "tar"))
        for number in range(3)
    ]
    found = {cut.id: cut for cut in read_cuts(folder)}
    by_lhotse = {cut.id: cut for cut in CutSet.from_shar(in_dir=folder)}
    gc.collect()
    assert found.keys() == by_lhotse.keys() == {cut.id for cut in cuts}
    assert list(found) != [cut.id for cut in cuts]  # each archive is a sample
    for cut in cuts:
        one, rate = found[cut.id], cut.sampling_rate
        audio, expected = load_waveform(one, rate), load_waveform(cut, rate)
        if cut.id in ("FLOAT", "THREE"):  # as near as 24 bits can be
            assert not torch.equal(audio, expected)
            torch.testing.assert_close(audio, expected, rtol=0, atol=2**-24 * 1.01)
        else:
            assert torch.equal(audio, expected), cut.id
        assert np.array_equal(by_lhotse[cut.id].load_audio()[0], audio.numpy())
        assert one.duration == pytest.approx(cut.duration, abs=1 / rate)
        assert cut_text(one) == cut_text(cut)
        assert one.supervisions[0].speaker == cut.supervisions[0].speaker
        was, now = reference_alignment(cut), reference_alignment(one)
        assert (was is None) == (now is None)
        if was is not None and now is not None:
            for left, right in zip(was.words, now.words, strict=True):
                assert left.label == right.label
                assert (left.start, left.end) == pytest.approx((right.start, right.end))


def test_the_same_cuts_give_the_same_bytes(make_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = make_cuts(0.5, 0.3, 0.4)
    folders = [shar_of(cuts, tmp_path / name, 2) for name in ("one", "two")]
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()


@pytest.mark.parametrize("size", [2, None])
@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_folders_that_lhotse_writes(
    size: int | None, kind: str, make_cuts: MakeCuts, make_audio: MakeAudio, tmp_path: Path
) -> None:
    cuts = make_cuts(0.5, 0.3, 0.4)
    stereo = make_audio("stereo.wav", 1.0, channels=2)
    cuts.append(make_cut(id="right", audio=stereo, text="go", channel=1))
    for cut in cuts:
        cut.supervisions[0].alignment = None
    folder = tmp_path / "theirs"
    folder.mkdir()
    with SharWriter(folder, {"recording": kind}, shard_size=size) as writer:
        for cut in cuts:
            writer.write(cut)
    found = list(read_cuts(folder))
    assert [cut.id for cut in found] == [cut.id for cut in cuts]
    for cut, one in zip(cuts, found, strict=True):
        assert torch.equal(load_waveform(one, 16000), load_waveform(cut, 16000))
    assert table_of(folder).archives == (1 if size is None else 2)
    # a single manifest of the folder finds its archive, too
    first = folder / ("cuts.jsonl.gz" if size is None else "cuts.000000.jsonl.gz")
    assert len(load_waveform(read_cuts(first)[0], 16000)) == 8000


def test_features_that_lhotse_stored_are_left_alone(
    make_cuts: MakeCuts, features: LogMelConfig, tmp_path: Path
) -> None:
    write_cuts(make_cuts(0.5, 0.3), tmp_path / "train.jsonl")
    store_features([tmp_path / "train.jsonl"], tmp_path / "store", features, SkipReport())
    folder = tmp_path / "theirs"
    folder.mkdir()
    with SharWriter(folder, {"recording": "flac", "features": "numpy"}) as writer:
        for cut in read_cuts(tmp_path / "store" / "train.jsonl"):
            writer.write(cut)
    assert (folder / "features.000000.tar").is_file()
    for cut in read_cuts(folder):
        assert not cut.has_features
        assert len(load_waveform(cut, 16000)) == round(16000 * cut.duration)


def test_workers_give_the_batches_of_the_manifest(
    make_cuts: MakeCuts, tokenizer: Tokenizer, features: LogMelConfig, tmp_path: Path
) -> None:
    """In the same order, from files and from archives, in one process and in others."""
    cuts = make_cuts(*[0.3 + 0.05 * i for i in range(9)])
    table = table_of(shar_of(cuts, tmp_path / "train.shar", 4))
    order = {cut.id: cut for cut in cuts}
    write_cuts([order[table.id(i)] for i in range(9)], tmp_path / "train.jsonl")
    loaders = [
        DataLoader(
            SpeechDataset(tokenizer, features),
            batch_size=None,
            sampler=make_sampler(one, 1.5, shuffle=True, seed=3),
            num_workers=workers,
        )
        for one, workers in ((table_of(tmp_path / "train.jsonl"), 0), (table, 0), (table, 2))
    ]
    count = 0
    for files, one, two in zip(*loaders, strict=True):
        assert files.ids == one.ids == two.ids
        assert torch.equal(files.features, one.features)
        assert torch.equal(files.features, two.features)
        count += 1
    assert count >= 3


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_archives_are_read_one_window_after_the_other(
    processes: int,
    shuffle: bool,
    make_cuts: MakeCuts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large_sampling, "WINDOW_ARCHIVES", 2)
    durations = [0.1 + 0.01 * (i % 13) for i in range(60)]
    folder = shar_of(make_cuts(*durations), tmp_path / "train.shar", 5)
    table = table_of(folder).at_speeds([1.0, 1.25])
    assert (table.archives, len(table)) == (12, 120)
    sampler = make_sampler(
        table, 0.5, shuffle=shuffle, seed=2, world_size=processes, rank=processes - 1
    )
    plans = [sampler.plan(epoch) for epoch in (0, 1)]  # type: ignore[union-attr]
    assert (plans[0] != plans[1]) == shuffle
    for shares in plans:
        assert len({len(share) for share in shares}) == 1
        places = [place for share in shares for batch in share for place in batch]
        assert sorted(places) == list(range(120))
        for share in shares:
            own = [list(table.shards[batch]) for batch in share]
            windows = [key for key, _ in itertools.groupby(frozenset(one) for one in own)]
            seen = list(dict.fromkeys(itertools.chain.from_iterable(own)))
            if processes == 1:
                # after the last batch of an archive, and of its neighbour, it does not come again
                assert len(seen) == 12
                pairs = [set(seen[i : i + 2]) for i in range(0, 12, 2)]
                assert all(any(window <= pair for pair in pairs) for window in windows)
    sampler.set_epoch(1)
    assert [[cut.id for cut in batch] for batch in sampler] == [
        [table.id(place) for place in batch] for batch in plans[1][-1]
    ]


def test_files_among_archives(make_cuts: MakeCuts, tmp_path: Path) -> None:
    cuts = make_cuts(*[0.2] * 6)
    folder = shar_of(cuts[:4], tmp_path / "a.shar", 2)
    write_cuts(cuts[4:], tmp_path / "b.jsonl")
    table = CutTable()
    for path in (folder, tmp_path / "b.jsonl"):
        for row in read_rows(path, SkipReport(strict=True)):
            table.add(row)
    assert (table.archives, table.shards.tolist()) == (2, [0, 0, 1, 1, 2, 2])
    (share,) = make_sampler(table, 0.5, shuffle=True).plan(0)  # type: ignore[union-attr]
    assert sorted(itertools.chain.from_iterable(share)) == list(range(6))


def test_a_sample_is_taken_from_few_archives(make_cuts: MakeCuts, tmp_path: Path) -> None:
    folder = shar_of(make_cuts(*[0.05] * 40), tmp_path / "train.shar", 1)
    assert len(spread(table_of(folder), 300)) == 8
    assert len(spread(table_of(shar_of(make_cuts(*[0.05] * 9), tmp_path / "b", 3)), 9)) == 9


# Damage


@pytest.fixture
def folder(make_cuts: MakeCuts, tmp_path: Path) -> Path:
    return shar_of(make_cuts(0.5, 0.3, 0.4, 0.6), tmp_path / "train.shar", 2)


def why(folder: Path) -> dict[str, str]:
    """Why the audio of each cut cannot be read."""
    found = {}
    for cut in read_cuts(folder):
        try:
            load_waveform(cut, 16000)
        except AudioError as error:
            found[cut.id] = str(error)
    return found


@pytest.mark.parametrize("kept", [0, 100, 700, 5000])
def test_an_archive_that_is_cut_off_names_itself(kept: int, folder: Path) -> None:
    tar = folder / "recording.000001.tar"
    tar.write_bytes(tar.read_bytes()[:kept])
    lost = {cut.id for cut in read_cuts(folder / "cuts.000001.jsonl.gz")}
    reasons = why(folder)
    assert reasons.keys() == lost
    assert all(str(tar) in reason and "Get " in reason for reason in reasons.values())
    assert all("\n" not in reason for reason in reasons.values())


@pytest.mark.parametrize("content", [b"", b"no archive" * 1000, b"\0" * 10240])
def test_what_is_no_archive_names_itself(content: bytes, folder: Path) -> None:
    tar = folder / "recording.000000.tar"
    tar.write_bytes(content)
    reasons = why(folder)
    assert len(reasons) == 2
    assert all(f"{tar}: no file utt-" in reason for reason in reasons.values())


def test_damaged_audio_in_an_archive_names_both(folder: Path) -> None:
    tar = folder / "recording.000000.tar"
    first = read_cuts(folder)[0].id
    content = bytearray(tar.read_bytes())
    content[512:700] = b"x" * 188
    tar.write_bytes(content)
    ((name, reason),) = why(folder).items()
    assert name == first
    assert f"{tar}/{first}" in reason


def test_an_archive_that_is_replaced_is_read_anew(
    folder: Path, make_cuts: MakeCuts, tmp_path: Path
) -> None:
    assert why(folder) == {}
    other = shar_of(make_cuts(0.5, 0.3, 0.4, 0.6)[::-1], tmp_path / "other.shar", 4)
    for path in folder.iterdir():
        path.unlink()
    for path in other.iterdir():
        path.rename(folder / path.name)
    assert why(folder) == {}


@pytest.mark.parametrize("lost", ["recording.000001.tar", "cuts.000001.jsonl.gz"])
def test_a_folder_that_is_not_whole_is_refused(lost: str, folder: Path) -> None:
    (folder / lost).unlink()
    assert is_shar(folder)
    with pytest.raises(ManifestError, match=f"there is no {lost} beside it"):
        read_cuts(folder)


def test_damaged_manifests_name_themselves(folder: Path) -> None:
    manifest = folder / "cuts.000001.jsonl.gz"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(ManifestError, match=r"cuts\.000001\.jsonl\.gz: cannot be read"):
        read_cuts(folder)
    (folder / "cuts.000001.jsonl.gz").write_bytes((folder / "cuts.000000.jsonl.gz").read_bytes())
    report = SkipReport()
    assert len(read_cuts(folder, report)) == 2
    where, reason = report.items[0]
    assert where == f"{manifest}:1"
    assert f"was on {folder / 'cuts.000000.jsonl.gz'}:1 already" in reason


def test_a_training_notices_other_audio(folder: Path) -> None:
    tars = [folder / f"recording.{number:06d}.tar" for number in range(2)]
    assert audio_files([folder]) == audio_files([folder / "cuts.000000.jsonl.gz", folder]) == tars
    before = content_digest(folder), audio_digest([folder])
    assert "unreadable" not in before
    tars[1].write_bytes(tars[1].read_bytes()[:-1])
    assert content_digest(folder) == before[0]
    assert audio_digest([folder]) != before[1]
    (folder / "cuts.000001.jsonl.gz").unlink()
    assert content_digest(folder) != before[0]


def test_headers_of_every_kind_are_read(tmp_path: Path) -> None:
    """The short way for plain headers, and tarfile for all others, find the same."""
    import io
    import tarfile

    for names in (("a", "b.c"), ("a", "ü", "y" * 200)):
        tar = tmp_path / f"{len(names)}.tar"
        with tarfile.open(tar, "w") as file:
            for name in names:
                for kind in ("flac", "json"):
                    member = tarfile.TarInfo(f"{name}.{kind}")
                    member.size = 700
                    file.addfile(member, io.BytesIO(name.encode()[:1] * 700))
        for name in names:
            assert archives.read_member(tar, name) == name.encode()[:1] * 700
        with pytest.raises(ManifestError, match="no file z is in it"):
            archives.read_member(tar, "z")

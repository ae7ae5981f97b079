"""Stores log-mel features on disk, tied to the settings they were made with.

On the fly, features cost about a two-thousandth of the audio's duration; a store pays where audio
is slow to read or decode. lhotse keeps the arrays, one exact numpy file per cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lhotse import Features, MonoCut, NumpyFilesWriter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from speechmm.audio.cmvn import CmvnAccumulator, CmvnStats
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.fingerprint import audio_files
from speechmm.data.manifest import read_cuts, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import LENGTH_TOLERANCE_SECONDS, load_waveform
from speechmm.errors import ConfigError, ManifestError, SpeechmmError
from speechmm.files.atomic import write_aside
from speechmm.files.json_text import SKIPPED, fits
from speechmm.files.leftovers import remove
from speechmm.files.shar import cut_files
from speechmm.files.stamps import (
    Record,
    is_current,
    make_stamp,
    output_names,
    read_record,
    remove_record,
    write_record,
)

FORMAT = "speechmm-features/1"
SETTINGS_FILE = "features.json"
CMVN_FILE = "cmvn.json"

_ARCHIVE_PREFIX = "log-mel-"
_SAID_AGAIN = {"stored": {str: int}, "skipped": SKIPPED}


@dataclass(frozen=True)
class StoreSummary:
    """What `store_features` did."""

    stored: int
    """Utterances in the store."""
    unchanged: bool
    """The store was there, made from the same inputs with the same settings."""


def store_features(
    manifests: Sequence[Path],
    out: Path,
    config: LogMelConfig,
    report: SkipReport,
    *,
    num_workers: int = 0,
) -> StoreSummary:
    """Computes and stores the features of every cut.

    Writes ``OUT/<manifest name>`` (``train.jsonl.gz`` for ``train.shar``) whose cuts have features,
    ``OUT/cmvn.json`` with the statistics of the first manifest, and last ``OUT/features.json`` with
    settings, inputs and skipped utterances. The arrays go into a folder named after settings and
    inputs, so an older store stays whole until the new one is.

    Args:
        manifests: cuts manifests, or folders of lhotse Shar; the first is the training split.
        out: folder to write.
        config: settings of the features.
        report: where utterances that cannot be read are noted.
        num_workers: processes that compute; 0 computes in this one.

    Raises:
        ConfigError: two manifests have the same name, or one would be overwritten.
        ManifestError: nothing could be stored.
    """
    _check_names(manifests, out)
    rows = [file for path in manifests for file in cut_files(path)]
    names = [str(path) for path in manifests]  # the first one has the statistics
    stamp = make_stamp([FORMAT, asdict(config), names], [*rows, *audio_files(manifests)])
    previous = read_record(out / SETTINGS_FILE)
    if is_current(previous, stamp, out) and fits(previous, _SAID_AGAIN):
        report.add_dicts(previous["skipped"])
        return StoreSummary(sum(previous["stored"].values()), unchanged=True)
    archive = _ARCHIVE_PREFIX + stamp[:12]
    _remove_links(out / archive)
    stored, statistics = _store_all(
        manifests, out.absolute() / archive, config, report, num_workers
    )
    remove_record(out / SETTINGS_FILE)
    for name, cuts in stored.items():
        write_cuts(cuts, out / name, ours=True)
    statistics.save(out / CMVN_FILE)
    content = {
        "format": FORMAT,
        "type": feature_type(config),
        "archive": archive,
        "stored": {name: len(cuts) for name, cuts in stored.items()},
        "skipped": report.to_dicts(),
        "made_from": {"settings": asdict(config), "inputs": [str(path) for path in manifests]},
    }
    outputs = [out / name for name in (*stored, CMVN_FILE, archive)]
    settings = write_record(out / SETTINGS_FILE, stamp, content, outputs)
    _remove_previous(out, previous, settings)
    return StoreSummary(sum(settings["stored"].values()), unchanged=False)


def feature_type(config: LogMelConfig) -> str:
    """The name lhotse keeps with stored features; other settings give another name."""
    settings = json.dumps(asdict(config), sort_keys=True)
    return f"speechmm-log-mel-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def check_features(cut: MonoCut, config: LogMelConfig) -> None:
    """Make sure that a cut's stored features are those the settings would give.

    Raises:
        ManifestError: they were made with other settings, or for another span, or are not there.
    """
    features = cut.features
    path = Path(features.storage_path) / features.storage_key
    expected = config.num_frames(round(cut.duration * config.sample_rate))
    if features.type != feature_type(config):
        found = f'were made with other settings ("{features.type}", {features.num_features} bands)'
        wanted = f'"{feature_type(config)}", {config.n_mels} bands'
    elif abs(features.num_frames - expected) > 1 + LENGTH_TOLERANCE_SECONDS / config.frame_shift:
        found, wanted = f"have {features.num_frames} frames", f"{expected}, as many as the audio"
    elif features.storage_type != NumpyFilesWriter.name or not path.is_file():
        found, wanted = f"are not in {path}", "the file that was stored there"
    else:
        return
    raise ManifestError(
        f'cut {cut.id}: its stored features {found}; expected {wanted}. Run "speechmm features" '
        "again, or use the manifest without features."
    )


def load_features(cut: MonoCut, config: LogMelConfig) -> Float[Tensor, "frames n_mels"]:
    """The stored features of a cut, all frames of it.

    Raises:
        ManifestError: they are missing, damaged or made with other settings.
    """
    check_features(cut, config)
    path = Path(cut.features.storage_path) / cut.features.storage_key
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        wanted = (cut.features.num_frames, config.n_mels)
        if not isinstance(found, np.ndarray) or (found.shape, found.dtype) != (wanted, np.float32):
            raise ValueError(f"no float32 of shape {wanted}")
        frames = np.array(found)
        if not np.isfinite(frames).all():
            raise ValueError("not all of them are finite numbers")
        return torch.from_numpy(frames)
    except Exception as error:  # NumPy reads its header as Python: anything may happen
        raise ManifestError(
            f"{path}: its features are damaged ({error}); expected a whole numpy file. "
            'Remove the folder and run "speechmm features" again.'
        ) from error


class _LogMelOfCuts(Dataset[Any]):
    """Features of each cut, or the error it gave: what the worker processes send back."""

    def __init__(self, cuts: list[MonoCut], config: LogMelConfig) -> None:
        self.cuts = cuts
        self.config = config

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: int) -> Tensor | SpeechmmError:
        cut = self.cuts[index]
        try:
            return compute_log_mel(load_waveform(cut, self.config.sample_rate), self.config)
        except SpeechmmError as error:
            return error


def _store_all(
    manifests: Sequence[Path],
    archive: Path,
    config: LogMelConfig,
    report: SkipReport,
    num_workers: int,
) -> tuple[dict[str, list[MonoCut]], CmvnStats]:
    """The cuts of each manifest with features now in the archive; statistics of the first."""
    accumulator = CmvnAccumulator()
    stored: dict[str, list[MonoCut]] = {}
    for path in manifests:
        rows = _computed(list(read_cuts(path, report)), config, report, num_workers)
        if not stored:
            rows = _counted(rows, accumulator)
        name = _stored_name(path)
        stored[name] = list(_stored(rows, archive / name.partition(".")[0], config))
        if not stored[name]:
            raise ManifestError(
                f"{path}: no utterance could be stored (the last: {report.items[-1][1]}); "
                "expected some. Mend its audio."
            )
    return stored, accumulator.stats()


def _counted(
    rows: Iterator[tuple[MonoCut, Tensor]], accumulator: CmvnAccumulator
) -> Iterator[tuple[MonoCut, Tensor]]:
    for cut, features in rows:
        accumulator.add(features)
        yield cut, features


def _computed(
    cuts: list[MonoCut], config: LogMelConfig, report: SkipReport, num_workers: int
) -> Iterator[tuple[MonoCut, Tensor]]:
    """Cuts with their features, in order; those that cannot be read are noted."""
    loader = DataLoader(_LogMelOfCuts(cuts, config), batch_size=None, num_workers=num_workers)
    for cut, features in zip(cuts, loader, strict=True):
        if isinstance(features, SpeechmmError):
            report.add(cut.id, features)
        else:
            yield cut, features


def _stored(
    rows: Iterator[tuple[MonoCut, Tensor]], folder: Path, config: LogMelConfig
) -> Iterator[MonoCut]:
    """The cuts with references to the features now on disk."""
    for index, (cut, features) in enumerate(rows):
        # Not the id, which may be no file name; a folder holds a thousand at most.
        key = f"{index // 1000:05d}/{index:08d}.npy"
        with write_aside(folder / key, ours=True) as aside, aside.open("wb") as file:
            np.save(file, features.numpy(), allow_pickle=False)
        cut.features = Features(
            type=feature_type(config),
            num_frames=features.shape[0],
            num_features=features.shape[1],
            frame_shift=config.frame_shift,
            sampling_rate=config.sample_rate,
            start=cut.start,
            duration=features.shape[0] * config.frame_shift,
            storage_type=NumpyFilesWriter.name,
            storage_path=str(folder),
            storage_key=key,
            recording_id=cut.recording.id,
            channels=cut.channel,
        )
        yield cut


def _stored_name(path: Path) -> str:
    """The name of a manifest in the store; that of a folder is made of its own."""
    return f"{path.name.partition('.')[0]}.jsonl.gz" if path.is_dir() else path.name


def _check_names(manifests: Sequence[Path], out: Path) -> None:
    names = {path.name.partition(".")[0] for path in manifests}
    if len(names) < len(manifests):
        raise ConfigError(
            f"features: found {', '.join(str(path) for path in manifests)}; expected different "
            "file names, since the store keeps them. Rename one."
        )
    for path in manifests:
        name = _stored_name(path)
        if path.with_name(name).absolute() == (out / name).absolute():
            raise ConfigError(
                f"{path}: the store would overwrite it; expected an --out other than its folder. "
                "Name a new folder."
            )


def _remove_links(folder: Path) -> None:
    """Removes links to folders, so that nothing is written outside an archive found in place."""
    found = [folder, *folder.rglob("*")] if folder.is_dir() else [folder]
    for path in found:
        if path.is_symlink():
            path.unlink()


def _remove_previous(out: Path, previous: Record, settings: Record) -> None:
    """Removes what older stores, whole or interrupted, left and the new one does not have."""
    for name in output_names(previous, "stored") - settings["stored"].keys():
        if name.endswith((".jsonl", ".jsonl.gz")):
            (out / name).unlink(missing_ok=True)
    for archive in out.glob(f"{_ARCHIVE_PREFIX}*"):
        if archive.name != settings["archive"]:
            remove(archive)

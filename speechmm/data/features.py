"""A feature store: log-mel features kept by lhotse, with the settings they were made with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhotse import CutSet, Features, NumpyFilesWriter, MonoCut

from speechmm.audio.cmvn import CmvnAccumulator
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.manifest import load_waveform, read_cuts, write_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError, ManifestError, SpeechmmError
from speechmm.writing import write_text

FEATURE_TYPE = "speechmm-log-mel"
SETTINGS_FILE = "features.json"
CMVN_FILE = "cmvn.json"


def store_features(
    manifests: Sequence[Path], out: Path, config: LogMelConfig, report: SkipReport
) -> bool:
    """Computes and stores the features of every cut, and the statistics of the first manifest.

    Writes ``OUT/<manifest name>`` with features (exact, one numpy file each,
    by lhotse), ``OUT/cmvn.json`` and ``OUT/features.json``.

    Returns:
        False when the store was there already, made from the same inputs with the same settings.

    Raises:
        ConfigError: two manifests have the same name.
        ManifestError: nothing could be stored.
    """
    if len({path.name for path in manifests}) < len(manifests):
        raise ConfigError(
            "features: two manifests have the same file name; expected different ones, since the "
            "store keeps their names. Rename one."
        )
    stamp = _stamp(manifests, config)
    if _stored_stamp(out) == stamp:
        return False
    accumulator = CmvnAccumulator()
    for index, manifest in enumerate(manifests):
        cuts = read_cuts(manifest, report)
        stored = _store_split(cuts, out, manifest, config, report, accumulator if not index else None)
        if not stored:
            raise ManifestError(
                f"{manifest}: no cut could be stored; expected some. See the reasons above."
            )
        write_cuts(stored, out / manifest.name)
    accumulator.stats().save(out / CMVN_FILE)
    settings = {"type": FEATURE_TYPE, "settings": dataclasses.asdict(config), "stamp": stamp}
    write_text(out / SETTINGS_FILE, json.dumps(settings, indent=1) + "\n")
    return True


def _store_split(
    cuts: CutSet,
    out: Path,
    manifest: Path,
    config: LogMelConfig,
    report: SkipReport,
    accumulator: CmvnAccumulator | None,
) -> list[MonoCut]:
    stored = []
    name = manifest.name.removesuffix(".gz").removesuffix(".jsonl")
    archive = out.absolute() / f"{name}-features"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with NumpyFilesWriter(archive) as writer:
        for cut in cuts:
            try:
                features = compute_log_mel(load_waveform(cut, config.sample_rate), config)
            except SpeechmmError as error:
                report.add(cut.id, error)
                continue
            if accumulator is not None:
                accumulator.add(features)
            cut.features = Features(
                type=FEATURE_TYPE,
                num_frames=features.shape[0],
                num_features=features.shape[1],
                frame_shift=config.frame_shift,
                sampling_rate=config.sample_rate,
                start=cut.start,
                duration=features.shape[0] * config.frame_shift,
                storage_type=writer.name,
                storage_path=str(writer.storage_path),
                storage_key=writer.write(cut.id, features.numpy()),
                recording_id=cut.recording.id,
                channels=0,
            )
            stored.append(cut)
    return stored


def load_features(cut: MonoCut) -> Any:
    """The stored features of a cut, all frames of it, as a numpy array (frames, n_mels)."""
    return cut.features.load()


def _stamp(manifests: Sequence[Path], config: LogMelConfig) -> str:
    rows: list[Any] = [dataclasses.asdict(config)]
    for path in manifests:
        if path.is_file():
            rows.append([str(path), path.stat().st_size, path.stat().st_mtime_ns])
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _stored_stamp(out: Path) -> str:
    try:
        found = json.loads((out / SETTINGS_FILE).read_text(encoding="utf-8"))
        return str(found["stamp"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""

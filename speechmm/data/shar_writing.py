"""Writes cuts and their audio as lhotse Shar: archives that are read from beginning to end."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from lhotse import AudioSource, MonoCut, Recording
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from speechmm.data.channels import AVERAGED
from speechmm.data.manifest import write_cuts
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import load_waveform
from speechmm.errors import SpeechmmError

FIRST_FILE = "cuts.000000.jsonl.gz"
"""Every folder has it."""
_ENCODERS = 4  # threads; decoding and encoding release Python's lock
_FLAC_RATES = 65_535  # Hz at most


def write_shar(
    cuts: Sequence[MonoCut], folder: Path, size: int, report: SkipReport
) -> list[MonoCut]:
    """Writes ``cuts.000000.jsonl.gz``, ``recording.000000.tar`` and so on, each with ``size`` cuts.

    The cuts are in an order drawn once, so that every archive is a sample of the corpus. Their audio is
    that of `load_waveform` at the rate of its file: mono, exact where it has at most 24 bits. The same
    cuts always give the same bytes.

    Args:
        cuts: Whose audio is in files.
        folder: Is there, and empty.
        size: Cuts in an archive.
        report: Told of cuts whose audio cannot be read, which are left out.

    Returns:
        The cuts that were written, in the order given.
    """
    order = list(cuts)
    random.Random(0).shuffle(order)
    unreadable: set[str] = set()
    number = 0
    with ThreadPoolExecutor(min(_ENCODERS, os.cpu_count() or 1)) as encoders:
        for first in range(0, len(order), size):
            part = order[first : first + size]
            rows = []
            with tarfile.open(folder / f"recording.{number:06d}.tar", "w") as tar:
                for cut, made in zip(part, encoders.map(_encoded, part), strict=True):
                    if isinstance(made, SpeechmmError):
                        report.add(cut.id, made)
                        unreadable.add(cut.id)
                        continue
                    row, kind, content = made
                    meta = json.dumps(row.recording.to_dict()).encode() + b"\n"
                    _add(tar, f"{cut.id}.{kind}", content)
                    _add(tar, f"{cut.id}.json", meta)
                    rows.append(row)
            write_cuts(rows, folder / f"cuts.{number:06d}.jsonl.gz", ours=True)
            number += 1
    return [cut for cut in cuts if cut.id not in unreadable]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _encoded(cut: MonoCut) -> tuple[MonoCut, str, bytes] | SpeechmmError:
    """The cut as it is in the archive, and its audio with the name of its format."""
    try:
        samples = load_waveform(cut, cut.sampling_rate).numpy()
    except SpeechmmError as error:
        return error
    return _in_archive(cut, len(samples)), *_encode(samples, cut.sampling_rate)


def _encode(samples: np.ndarray, rate: int) -> tuple[str, bytes]:
    """As FLAC of 16 or 24 bits; as floats where that cannot hold it."""
    file = io.BytesIO()
    fits = rate <= _FLAC_RATES and samples.min() >= -1 and samples.max() < 1
    scaled = samples.astype(np.float64) * (1 << 15)
    if fits and np.array_equal(scaled, np.round(scaled)):
        soundfile.write(file, scaled.astype(np.int16), rate, format="FLAC", subtype="PCM_16")
    elif fits:
        numbers = np.minimum(np.round(scaled * (1 << 8)), (1 << 23) - 1).astype(np.int32)
        soundfile.write(file, numbers << 8, rate, format="FLAC", subtype="PCM_24")
    else:
        soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
        return "wav", file.getvalue()
    return "flac", file.getvalue()


def _in_archive(cut: MonoCut, num_samples: int) -> MonoCut:
    """A cut of all of a recording of its own, times counted from its beginning."""
    rate = cut.sampling_rate
    seconds = num_samples / rate
    exact = abs(cut.duration - seconds) < 0.5 / rate
    recording = Recording(
        id=cut.recording.id,
        sources=[AudioSource(type="shar", channels=[0], source="")],
        sampling_rate=rate,
        num_samples=num_samples,
        duration=seconds,
    )
    custom = {key: value for key, value in (cut.custom or {}).items() if key != AVERAGED}
    supervisions = [
        fastcopy(
            one,
            channel=0,
            alignment={
                unit: [_earlier(item, cut.start) for item in items]
                for unit, items in (one.alignment or {}).items()
            }
            or None,
        )
        for one in cut.supervisions
    ]
    return MonoCut(
        id=cut.id,
        start=0.0,
        duration=cut.duration if exact else seconds,
        channel=0,
        supervisions=supervisions,
        recording=recording,
        custom=custom or None,
    )


def _earlier(item: AlignmentItem, seconds: float) -> AlignmentItem:
    return item if seconds == 0 else item._replace(start=round(item.start - seconds, 8))

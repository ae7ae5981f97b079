"""Reads the audio of a cut."""

from pathlib import Path

import torch
from jaxtyping import Float
from lhotse.augmentation import Resample, Speed
from lhotse.cut.data import DataCut

from speechmm.audio.io import read_audio
from speechmm.audio.resample import perturb_speed
from speechmm.data.channels import averaged_channels
from speechmm.errors import ManifestError

LENGTH_TOLERANCE_SECONDS = 0.1
"""How far a lossy decoder may be from the length that a manifest has for its file."""


def load_waveform(cut: DataCut, sample_rate: int) -> Float[torch.Tensor, "samples"]:
    """The audio of a cut: its channel (several are averaged), resampled, at the speed it asks for.

    Raises:
        AudioError: the file cannot be read.
        ManifestError: the cut asks for something other than a span of one file and its speed,
            or the file is not as long as the manifest says.
    """
    factor = speed_factor(cut)
    waveform = load_recorded(cut, sample_rate)
    return waveform if factor == 1.0 else perturb_speed(waveform, factor, sample_rate)


def load_recorded(cut: DataCut, sample_rate: int) -> Float[torch.Tensor, "samples"]:
    """The audio of a cut as :func:`load_waveform` reads it, but at the speed of the recording."""
    factor = speed_factor(cut)
    path, start, duration, channels = recorded_span(cut)
    waveform = read_audio(
        path, sample_rate=sample_rate, start=start, duration=duration, channels=channels
    )
    seconds = len(waveform) / sample_rate / factor
    if abs(seconds - cut.duration) > LENGTH_TOLERANCE_SECONDS:
        raise ManifestError(
            f"cut {cut.id}: {path} gives {seconds:.2f} s of audio; expected the "
            f"{cut.duration:.2f} s of its manifest. The file has changed: prepare the corpus again."
        )
    return waveform


def recorded_span(cut: DataCut) -> tuple[Path, float, float | None, tuple[int, ...]]:
    """The file of a cut, where in it the cut begins, its length (None for all), and its channels."""
    factor = speed_factor(cut)
    whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 0.5 / cut.sampling_rate
    start = 0.0 if whole else cut.start * factor
    duration = None if whole else cut.duration * factor
    return audio_path(cut), start, duration, tuple(cut_channels(cut))


def cut_channels(cut: DataCut) -> list[int]:
    """The channels of its recording that a cut is the average of, counted from 0.

    Its own channel, or those of lhotse's MultiCut; all of the custom field ``averaged_channels``, which
    ``prepare`` sets where a corpus does not say which channel an utterance is on.
    """
    return list(averaged_channels(cut.channel, cut.custom))


def chosen_channels(cut: DataCut) -> tuple[int, ...]:
    """The same channels; none where they are all of the recording's."""
    chosen = cut_channels(cut)
    there = 0 if cut.recording is None else cut.recording.num_channels
    return () if sorted(chosen) == list(range(there)) else tuple(chosen)


def audio_path(cut: DataCut) -> Path:
    """The audio file of a cut.

    Raises:
        ManifestError: the cut's audio is not one file.
    """
    sources = cut.recording.sources if cut.recording is not None else []
    if len(sources) != 1 or sources[0].type != "file":
        raise ManifestError(
            f"cut {cut.id}: its audio is {[s.type for s in sources] or 'missing'}; expected one "
            "file. Store the audio in files and prepare the corpus again."
        )
    return Path(sources[0].source)


def speed_factor(cut: DataCut) -> float:
    """How fast the recording of a cut is to be played: 1.1 is 10 % faster and higher.

    Raises:
        ManifestError: the recording asks for a change other than of its speed.
    """
    factor = 1.0
    for transform in cut.recording.transforms or []:
        if _resamples(transform):  # which is done anyway
            continue
        if isinstance(transform, dict):
            known = transform.get("name") == "Speed"
            value = transform.get("kwargs", {}).get("factor") if known else None
        else:
            value = transform.factor if isinstance(transform, Speed) else None
        if value is None:
            name = (
                transform.get("name") if isinstance(transform, dict) else type(transform).__name__
            )
            raise ManifestError(
                f"cut {cut.id}: its recording asks for the transform {name}; expected Speed, "
                "Resample or none. Store the changed audio in files."
            )
        factor *= float(value)
    return factor


def _resamples(transform: object) -> bool:
    if isinstance(transform, dict):
        return transform.get("name") == "Resample"
    return isinstance(transform, Resample)

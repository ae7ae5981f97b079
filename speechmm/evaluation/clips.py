"""Embeds short recordings in a page: audio and spectrogram as data URLs within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from speechmm.errors import AudioError
from speechmm.evaluation.text_lines import UtteranceText

if TYPE_CHECKING:
    from torch import Tensor

MAX_CLIPS = 30
CLIP_RATE = 16000  # Hz
CLIP_SECONDS = 30.0  # longer utterances are not embedded
BUDGET = 9_000_000  # bytes of base64 in all: leaves room for the table in a page of 15 MB


@dataclass(frozen=True)
class Clip:
    """One utterance with audio and spectrogram."""

    audio: str
    """Data URL."""
    picture: str
    """Data URL of its log-mel spectrogram, time to the right, low frequencies below."""
    start: float
    """Seconds from the start of the audio file."""
    duration: float
    """Seconds."""

    def __len__(self) -> int:
        return len(self.audio) + len(self.picture)


class PlacedWord(TypedDict):
    """A word in the picture of a clip."""

    word: str
    left: float
    """Percent of the picture's width."""
    width: float
    """Percent of the picture's width."""
    time: tuple[float, float]
    """Start and end, seconds from the start of the clip."""


def place_words(
    words: Sequence[str], times: Sequence[tuple[float, float]], duration: float
) -> list[PlacedWord]:
    """Words as shares of the width of a clip's picture.

    Args:
        words: In their order.
        times: Starts and ends in seconds from the start of the clip.
        duration: Of the clip, seconds.
    """
    return [
        {
            "word": word,
            "left": 100 * start / duration,
            "width": 100 * max(0.0, end - start) / duration,
            "time": (start, end),
        }
        for word, (start, end) in zip(words, times, strict=False)
    ]


def make_clips(
    sources: Iterable[tuple[int, UtteranceText]], *, most: int = MAX_CLIPS, budget: int = BUDGET
) -> dict[int, Clip]:
    """Clips of the first utterances whose audio is known, short enough and readable.

    Args:
        sources: (key, utterance), the most wanted first.
        most: How many at most.
        budget: Bytes in all.
    """
    clips: dict[int, Clip] = {}
    used = 0
    for key, source in islice(sources, 3 * most):  # where most audio is gone, do not look for all
        if len(clips) >= most:
            break
        clip = _clip(source)
        if clip is not None and used + len(clip) <= budget:
            clips[key] = clip
            used += len(clip)
    return clips


def _clip(source: UtteranceText) -> Clip | None:
    """One utterance; None where there is no such audio or too much of it."""
    import soundfile

    from speechmm.audio.io import audio_info, read_audio

    if not source.audio or source.duration > CLIP_SECONDS:
        return None
    try:
        duration = source.duration or audio_info(source.audio).duration - source.start
        if not 0 < duration <= CLIP_SECONDS:
            return None
        waveform = read_audio(
            source.audio,
            sample_rate=CLIP_RATE,
            start=source.start,
            duration=source.duration or None,
            channels=source.channels or None,
        )
    except AudioError:  # a report is worth having without this recording
        return None
    mime, settings = _encoding()
    packed = io.BytesIO()
    soundfile.write(packed, waveform.clamp(-1, 1).numpy(), CLIP_RATE, **settings)
    audio = _data_url(mime, packed.getvalue())
    return Clip(audio, _picture(waveform), source.start, len(waveform) / CLIP_RATE)


def _data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def _picture(waveform: Tensor) -> str:
    """The log-mel spectrogram, 20 ms a column, as a small image."""
    from matplotlib.image import imsave

    from speechmm.audio.log_mel import LogMelConfig, compute_log_mel

    features = compute_log_mel(waveform, LogMelConfig(sample_rate=CLIP_RATE, n_mels=64))[
        ::2
    ].T.flip(0)
    low, high = float(features.quantile(0.05)), float(features.max())
    packed = io.BytesIO()
    imsave(packed, features.numpy(), format="png", cmap="magma", vmin=low, vmax=max(high, low + 1))
    return _data_url("image/png", packed.getvalue())


@lru_cache(maxsize=1)
def _encoding() -> tuple[str, dict[str, str]]:
    """MP3, which every browser plays; FLAC where libsndfile was built without it."""
    import soundfile

    if "MP3" in soundfile.available_formats():
        return "audio/mpeg", {"format": "MP3", "subtype": "MPEG_LAYER_III"}
    return "audio/flac", {"format": "FLAC", "subtype": "PCM_16"}

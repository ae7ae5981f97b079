"""Short recordings inside a page: audio as data URLs within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

from speechmm.errors import AudioError
from speechmm.evaluation.transcripts import Text

MOST_CLIPS = 30
CLIP_RATE = 16000  # Hz
CLIP_SECONDS = 30.0  # longer utterances are not embedded
BUDGET = 9_000_000  # bytes of base64 in all: leaves room for the table in a page of 15 MB


def make_clips(
    sources: Iterable[tuple[int, Text]], *, most: int = MOST_CLIPS, budget: int = BUDGET
) -> dict[int, str]:
    """Data URLs of the first utterances whose audio is known, short enough and readable.

    Args:
        sources: (key, utterance), the most wanted first.
        most: How many at most.
        budget: Bytes in all.
    """
    clips: dict[int, str] = {}
    used = 0
    for key, source in islice(sources, 3 * most):  # where most audio is gone, do not look for all
        if len(clips) >= most:
            break
        url = _clip(source)
        if url and used + len(url) <= budget:
            clips[key] = url
            used += len(url)
    return clips


def _clip(source: Text) -> str:
    """One utterance; "" where there is no such audio or too much of it."""
    import soundfile

    from speechmm.audio.io import audio_info, read_audio

    if not source.audio or source.duration > CLIP_SECONDS:
        return ""
    try:
        duration = source.duration or audio_info(source.audio).duration - source.start
        if not 0 < duration <= CLIP_SECONDS:
            return ""
        waveform = read_audio(
            source.audio,
            sample_rate=CLIP_RATE,
            start=source.start,
            duration=source.duration or None,
        )
    except AudioError:  # a report is worth having without this recording
        return ""
    mime, settings = _encoding()
    packed = io.BytesIO()
    soundfile.write(packed, waveform.clamp(-1, 1).numpy(), CLIP_RATE, **settings)
    return f"data:{mime};base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"


@lru_cache(maxsize=1)
def _encoding() -> tuple[str, dict[str, str]]:
    """MP3, which every browser plays; FLAC where libsndfile was built without it."""
    import soundfile

    if "MP3" in soundfile.available_formats():
        return "audio/mpeg", {"format": "MP3", "subtype": "MPEG_LAYER_III"}
    return "audio/flac", {"format": "FLAC", "subtype": "PCM_16"}

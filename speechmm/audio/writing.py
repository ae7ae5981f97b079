"""Writes audio files: 16 bits, WAV or FLAC, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechmm.errors import ConfigError
from speechmm.files.atomic import write_aside

FORMATS = {".wav": "WAV", ".flac": "FLAC"}
"""By the end of a name; other names hold WAV."""


def write_audio(
    path: Path, samples: NDArray[np.float32], sample_rate: int, *, ours: bool = False
) -> None:
    """Writes mono audio; the same samples always give the same bytes.

    Args:
        path: The file; ``-`` is standard output.
        samples: (samples,), full scale 1; what is beyond is clipped.
        sample_rate: Hz.
        ours: As in `write_aside`.

    Raises:
        ConfigError: The place cannot be written.
    """
    import soundfile

    format = FORMATS.get(path.suffix.lower(), "WAV")
    try:
        with write_aside(path, ours=ours) as aside:
            clipped = samples.clip(-1.0, 1.0)
            soundfile.write(aside, clipped, sample_rate, subtype="PCM_16", format=format)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ConfigError(
            f"{path}: cannot be written ({error}); expected a folder that can be written to, with "
            "free space. Choose another output path or make room."
        ) from error

"""Small recordings and corpora, made here in the layouts of the real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Record = Callable[..., Path]


@pytest.fixture
def record() -> Record:
    """``record(path, seconds=0.3)`` writes a recording, in the format its suffix names."""

    def write(path: Path, seconds: float = 0.3, *, rate: int = 16000, channels: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = int(seconds * rate)
        rng = np.random.default_rng(abs(hash(path.name)) % 2**32)
        noise = rng.uniform(-0.1, 0.1, (samples, channels))
        kinds = {".sph": "NIST", ".flac": "FLAC", ".mp3": "MP3", ".ogg": "OGG"}
        soundfile.write(path, noise, rate, format=kinds.get(path.suffix.lower(), "WAV"))
        return path

    return write


@pytest.fixture
def record_all(record: Record) -> Callable[[Path, str], None]:
    """Records every file of a space-separated list below a folder."""

    def write(folder: Path, names: str) -> None:
        for name in names.split():
            record(folder / name)

    return write

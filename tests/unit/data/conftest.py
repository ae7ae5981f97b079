"""Small corpora of noise: the data room cares about files and lengths, not about speech."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut
from lhotse.supervision import AlignmentItem

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.manifest import make_cut
from speechmm.text.tokenizer import Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer

MakeAudio = Callable[..., Path]
MakeCuts = Callable[..., list[MonoCut]]


@pytest.fixture
def make_audio(tmp_path: Path) -> MakeAudio:
    """``make_audio("a.wav", 1.5)`` writes 1.5 s of noise, the same for the same name."""

    def make(name: str, seconds: float, *, rate: int = 16000, channels: int = 1) -> Path:
        generator = np.random.default_rng(sum(map(ord, name)))
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = generator.normal(0, 0.1, (round(seconds * rate), channels)).clip(-1, 1)
        soundfile.write(path, samples.astype("float32"), rate)
        return path

    return make


@pytest.fixture
def make_cuts(make_audio: MakeAudio) -> MakeCuts:
    """``make_cuts(1.0, 2.5)`` is one cut of each duration, of three speakers in turn."""

    def make(*seconds: float, text: str = "go home") -> list[MonoCut]:
        return [
            make_cut(
                id=f"utt-{index}",
                audio=make_audio(f"{index}.wav", duration),
                text=text,
                speaker=f"speaker {index % 3}",
                language="en",
                alignment={
                    "word": [AlignmentItem("go", 0.1, 0.2), AlignmentItem("home", 0.4, 0.3)]
                },
            )
            for index, duration in enumerate(seconds)
        ]

    return make


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer(["go home now", "a word"], kind="char")


@pytest.fixture
def features() -> LogMelConfig:
    return LogMelConfig(n_mels=20)

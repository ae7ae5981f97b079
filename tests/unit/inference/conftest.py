"""A language of tones: audio whose text and times are known, and a model that hears it exactly."""

import copy
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from speechmm.alignments import Segment
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.models.bundle import Bundle, save_bundle
from speechmm.models.bundle_config import TrainingInfo
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import BLANK, SIL, SPACE, Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer

RATE = 16_000
LETTERS = "abcdefgh"
TINY = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1, align_dim=8
)


def tone(letter: str, seconds: float = 0.2) -> Tensor:
    """A letter: a tone of its own pitch."""
    time = torch.arange(round(seconds * RATE)) / RATE
    pitch = 300.0 * 1.4 ** LETTERS.index(letter)
    return 0.3 * torch.sin(2 * np.pi * pitch * time)


@dataclass
class Speech:
    """Audio with its words and when they are said."""

    waveform: Tensor
    text: str
    words: list[Segment] = field(default_factory=list)

    def save(self, path: Path, subtype: str = "FLOAT") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, self.waveform.numpy(), RATE, subtype=subtype)
        return path


def say(text: str, *, pauses: Sequence[float] = (0.3,), lead: float = 0.3) -> Speech:
    """Says a text: 0.2 s a letter; pauses (seconds, used in turn) follow the words."""
    parts, words, now = [torch.zeros(round(lead * RATE))], [], lead
    for index, word in enumerate(text.split()):
        start = now
        for letter in word:
            parts.append(tone(letter))
            now += 0.2
        words.append(Segment(label=word, start=start, end=now))
        pause = pauses[index % len(pauses)]
        parts.append(torch.zeros(round(pause * RATE)))
        now += pause
    return Speech(torch.cat(parts), " ".join(text.split()), words)


class ToneModel(SpeechTextModel):
    """Hears tones without training: CTC says the letter, or a space in silence."""

    def __init__(self, tokenizer: Tokenizer, features: LogMelConfig) -> None:
        super().__init__(TINY, vocab_size=tokenizer.vocab_size, n_mels=features.n_mels)
        self.space = tokenizer.pieces.index(SPACE)
        self.ids = torch.tensor([tokenizer.pieces.index(letter) for letter in LETTERS])
        spectra = [compute_log_mel(tone(letter), features)[5:-5].mean(0) for letter in LETTERS]
        self.peaks = torch.stack(spectra).argmax(dim=1)
        assert len(set(self.peaks.tolist())) == len(LETTERS)

    def heard(self, features: Tensor) -> Tensor:
        """The id heard in each frame; SIL in silence."""
        loudest, band = features.max(dim=-1)
        letter = (band[..., None] - self.peaks).abs().argmin(dim=-1)
        return torch.where(loudest > 0.0, self.ids[letter], SIL)

    def encode_speech(
        self, features: Tensor, lengths: Tensor, waveforms: object = None
    ) -> SpeechEncoding:
        encoded = self.heard(features)[:, ::4, None].float()
        return SpeechEncoding(encoded, (lengths + 3) // 4, features, lengths, encoded)

    def ctc_log_probs(self, encoding: SpeechEncoding) -> Tensor:
        heard = encoding.encoded[..., 0].long()
        heard = torch.where(heard == SIL, self.space, heard)
        logits = 8.0 * torch.nn.functional.one_hot(heard, self.vocab_size).float()
        logits[..., BLANK] += 6.0 * (heard == self.space)
        return logits.log_softmax(dim=-1)

    def align_log_probs(self, encoding: SpeechEncoding) -> Tensor:
        logits = 8.0 * torch.nn.functional.one_hot(self.heard(encoding.features), self.vocab_size)
        return logits.log_softmax(dim=-1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer([" ".join(LETTERS)], kind="char")


@pytest.fixture(scope="session")
def tone_bundle(tokenizer: Tokenizer) -> Bundle:
    """A bundle in memory that hears tones."""
    features = LogMelConfig()
    model = ToneModel(tokenizer, features).eval()
    return Bundle(
        model, tokenizer, features, Path("tones"), "0" * 64, training=TrainingInfo(seed=7)
    )


@pytest.fixture
def with_heads() -> Callable[[Bundle, Sequence[str]], Bundle]:
    """``with_heads(bundle, ["ctc"])``: the bundle of a model that was trained with these alone."""

    def call(bundle: Bundle, heads: Sequence[str]) -> Bundle:
        model = copy.deepcopy(bundle.model)
        for head in set(model.heads) - set(heads):
            del model.heads[head]
        return replace(bundle, model=model)

    return call


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A bundle folder of a real model that has learnt nothing."""
    torch.manual_seed(0)
    features = LogMelConfig()
    model = SpeechTextModel(TINY, vocab_size=tokenizer.vocab_size, n_mels=features.n_mels)
    path = tmp_path_factory.mktemp("model") / "bundle"
    save_bundle(path, model, tokenizer, features, training=TrainingInfo(seed=7))
    return path


@pytest.fixture
def speak() -> Callable[..., Speech]:
    """``speak("ab cd", pauses=[0.3])``: see ``say``."""
    return say


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``program("transcribe", "a.wav", ...)``: runs speechmm as a user does."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "speechmm", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )

    return call

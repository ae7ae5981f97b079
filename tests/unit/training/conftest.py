"""Small trainings on noise, run as a user runs them, but inside this process."""

import contextlib
import io
import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from lhotse import MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.cli.main import main
from speechmm.data.batch import Batch, pad_tokens
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import Tokenizer
from speechmm.text.tokenizer_training import train_tokenizer
from speechmm.training.tasks import Step, TasksConfig

RATE = 16_000
TEXTS = ("go home", "a word", "go now", "home")
TINY = {"d_model": 16, "heads": 2, "ff_dim": 16, "encoder_layers": 1, "decoder_layers": 1}


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a command."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line of an exit with code 2."""
        assert self.code == 2, self
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert "Traceback" not in line
        return line

    @property
    def skipped(self) -> dict[str, str]:
        """Reasons by item, of those named at the end."""
        lines = [line for line in self.err.splitlines() if line.startswith("skipped: ")]
        rows = dict(line.removeprefix("skipped: ").split(": ", 1) for line in lines)
        assert len(rows) == len(lines)
        return rows


class Workshop:
    """A folder with a tokenizer, corpora and run folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tokenizer = root / "tokenizer.json"
        train_tokenizer(TEXTS, kind="char").save(self.tokenizer)

    def noise(
        self, name: str, seconds: float, *, rate: int = RATE, channels: int = 1
    ) -> np.ndarray:
        """Samples that depend on the name."""
        generator = np.random.default_rng(sum(map(ord, name)))
        samples = generator.normal(0, 0.1, (round(seconds * rate), channels))
        return samples.clip(-1, 1).astype("float32")

    def cut(self, name: str, seconds: float = 1.0, text: str = "go home") -> MonoCut:
        """An utterance of noise, in ``audio/<name>.wav``."""
        path = self.root / "audio" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, self.noise(name, seconds), RATE)
        return make_cut(id=name, audio=path, text=text)

    def corpus(self, name: str, size: int) -> Path:
        """A manifest of so many good utterances of 0.5 s and more."""
        cuts = [self.cut(f"{name}-{i}", 0.5 + 0.05 * i, TEXTS[i % len(TEXTS)]) for i in range(size)]
        path = self.root / f"{name}.jsonl"
        write_cuts(cuts, path)
        return path

    def config(self, name: str, train: Path, dev: Path, **changes: Mapping[str, Any]) -> Path:
        """Settings of a tiny training in ``runs/<name>``; ``changes`` are by section."""
        settings: dict[str, dict[str, Any]] = {
            "data": {
                "train": [str(train)],
                "dev": [str(dev)],
                "tokenizer": str(self.tokenizer),
                "batch_seconds": 3.0,
                "num_workers": 0,
            },
            "model": {
                "network": {**TINY, "front_channels": 4},
                "optimization": {"warmup_steps": 3, "ema_decay": 0.9},
            },
            "trainer": {
                "accelerator": "cpu",
                "default_root_dir": str(self.root / "runs" / name),
                "max_epochs": 1,
            },
        }
        for section, values in changes.items():
            settings[section] |= values
        path = self.root / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        return path

    def fit(self, config: Path, *arguments: object, command: str = "fit") -> Outcome:
        """``speechmm fit`` (or ``validate``) with logging as the program sets it up."""
        out, err = io.StringIO(), io.StringIO()
        handler = logging.StreamHandler(err)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main([command, "--config", str(config), *map(str, arguments)])
        finally:
            root.removeHandler(handler)
        return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A workshop for all tests of a file, in a folder whose name asks for quoting."""
    root = tmp_path_factory.mktemp("training") / 'it\'s "ours" – Übung 训练'
    root.mkdir()
    return Workshop(root)


MakeStep = Callable[..., Step]


@pytest.fixture
def make_step() -> MakeStep:
    """``make_step(tokenizer, tasks, said, **more)``: step 500 of a small model on noise, always the same.

    ``said`` are the texts of the batch, ``more`` are further fields of it.
    """

    def make(
        tokenizer: Tokenizer, tasks: TasksConfig, said: Sequence[str] = ("go home",), **more: Any
    ) -> Step:
        torch.manual_seed(0)
        model = SpeechTextModel(
            SpeechTextConfig(
                d_model=16, heads=2, ff_dim=16, encoder_layers=2, decoder_layers=1,
                front_channels=4, dropout=0.0,
            ),
            vocab_size=tokenizer.vocab_size,
            n_mels=20,
            align_vocab_size=tokenizer.align_vocab_size,
            heads=tasks.heads,
        ).train()  # fmt: skip
        for task in tasks.active:
            model.heads.update(task.make_heads(model))
        batch = _noise_batch(tokenizer, list(said), **more)
        return Step(
            model=model,
            batch=batch,
            encoding=model.encode_speech(batch.features, batch.feature_lengths),
            tokenizer=tokenizer,
            log_mel=LogMelConfig(),
            number=500,
            wanted=tasks.reads,
        )

    return make


def _noise_batch(tokenizer: Tokenizer, said: list[str], **more: Any) -> Batch:
    """Rows of 80, 61, 42 ... frames."""
    torch.manual_seed(2)
    rows = len(said)
    tokens, token_lengths = pad_tokens([tokenizer.encode(text) for text in said])
    aligned, align_lengths = pad_tokens([tokenizer.encode_aligned(text).ids for text in said])
    lengths = torch.tensor([80 - 19 * row for row in range(rows)])
    return Batch(
        ids=said,
        features=torch.randn(rows, 80, 20),
        feature_lengths=lengths,
        tokens=tokens,
        token_lengths=token_lengths,
        align_tokens=aligned,
        align_lengths=align_lengths,
        texts=said,
        seconds=0.01 * int(lengths.sum()),
        references=[None] * rows,
        speakers=[""] * rows,
        speeds=[1.0] * rows,
        recombined=[False] * rows,
        **more,
    )


@pytest.fixture(scope="module")
def no_picture() -> Iterator[None]:
    """Drawing the curves takes as long as these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechmm.training.callbacks.curves.draw_curves", lambda *_: None)
        yield


@pytest.fixture(autouse=True)
def default_interrupt() -> Iterator[None]:
    """Lightning ignores Ctrl-C once it has seen it."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def each_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[int, int, list[str]], None]], None]:
    """``each_batch(call)``: calls ``call(epoch, index, ids)`` before each training step."""
    from speechmm.training.module import JointModule

    original = JointModule.on_train_batch_start

    def install(call: Callable[[int, int, list[str]], None]) -> None:
        def hook(module: JointModule, batch: Any, batch_idx: int) -> None:
            call(module.current_epoch, batch_idx, batch.ids)
            original(module, batch, batch_idx)

        monkeypatch.setattr(JointModule, "on_train_batch_start", hook)

    return install

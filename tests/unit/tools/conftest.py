"""The programs of tools/ as modules, and a spoken corpus of a few utterances for them."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from speechmm.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
SIZES = ("--train", "8", "--dev", "2", "--test", "3")


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """``load_tool("tree")`` imports ``tools/tree.py``, which is no package's module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        tool = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = tool  # dataclasses look their module up by name
        spec.loader.exec_module(tool)
        return tool

    return load


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``{train,dev,test}.jsonl.gz`` and ``tokenizer.json`` of a corpus of thirteen utterances."""
    folder = tmp_path_factory.mktemp("spoken")
    assert main(["prepare", "synth", str(folder), *SIZES, "--num-workers", "1"]) == 0
    train, tokenizer = str(folder / "train.jsonl.gz"), str(folder / "tokenizer.json")
    assert main(["tokenizer", train, "--kind", "char", "--out", tokenizer]) == 0
    return folder


@pytest.fixture(scope="session")
def bundle(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of a few thousand weights."""
    import torch

    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.models.bundle import save_bundle
    from speechmm.models.speech_text import SpeechTextModel
    from speechmm.models.speech_text_config import SpeechTextConfig
    from speechmm.text.tokenizer import Tokenizer

    tokenizer, features = Tokenizer.load(spoken / "tokenizer.json"), LogMelConfig()
    torch.manual_seed(0)
    sizes = SpeechTextConfig(d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1)
    model = SpeechTextModel(sizes, vocab_size=tokenizer.vocab_size, n_mels=features.n_mels)
    folder = tmp_path_factory.mktemp("model") / "bundle"
    save_bundle(folder, model, tokenizer, features)
    return folder

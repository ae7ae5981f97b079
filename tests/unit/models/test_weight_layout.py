import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.bundle import load_bundle, save_bundle
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.weight_layout import to_column_major
from speechmm.text.tokenizer_training import train_tokenizer

SMALL = SpeechTextConfig(
    d_model=32, heads=2, ff_dim=64, encoder_layers=2, decoder_layers=2, front_channels=16
)


@pytest.fixture
def model() -> SpeechTextModel:
    torch.manual_seed(0)
    return SpeechTextModel(SMALL, vocab_size=30, n_mels=40).eval()


@torch.inference_mode()
def test_same_results_from_columns(model: SpeechTextModel) -> None:
    laid = copy.deepcopy(model)
    to_column_major(laid)
    for name, weight in model.state_dict().items():
        assert torch.equal(laid.state_dict()[name], weight)
    features, lengths = torch.randn(2, 80, 40), torch.tensor([80, 61])
    found = [
        search(one, one.encode_speech(features, lengths), SearchOptions(beam=3))
        for one in (model, laid)
    ]
    for before, after in zip(*found, strict=True):
        assert [h.tokens for h in after] == [h.tokens for h in before]
        assert [h.score for h in after] == pytest.approx([h.score for h in before], abs=1e-4)


def test_only_layers_that_do_not_narrow(model: SpeechTextModel) -> None:
    to_column_major(model)
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    assert {layer.out_features >= layer.in_features for layer in layers} == {True, False}
    for layer in layers:
        columns = layer.weight.t().is_contiguous()
        assert columns == (layer.out_features >= layer.in_features)


def test_a_loaded_bundle_is_saved_as_it_was(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["go home"], kind="char")
    sized = SpeechTextModel(SMALL, vocab_size=tokenizer.vocab_size, n_mels=40)
    features = LogMelConfig(n_mels=40)
    save_bundle(tmp_path / "first", sized, tokenizer, features)
    loaded = load_bundle(tmp_path / "first")
    assert not loaded.model.decoder.stack.layers[0].feed_forward.up.weight.is_contiguous()
    save_bundle(tmp_path / "second", loaded.model, tokenizer, features)
    first, second = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()

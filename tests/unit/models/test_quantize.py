import pytest
import torch
from torch import nn

from speechmm.errors import ConfigError
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.quantize import quantize
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig

SMALL = SpeechTextConfig(
    d_model=64, heads=4, ff_dim=128, encoder_layers=3, decoder_layers=1, front_channels=32
)


def model() -> SpeechTextModel:
    torch.manual_seed(0)
    return SpeechTextModel(SMALL, vocab_size=30, n_mels=40).eval()


@torch.inference_mode()
def test_results_are_close_and_weights_are_small():
    features, lengths = torch.randn(2, 80, 40), torch.tensor([80, 61])
    exact, rough = model(), quantize(model(), "int8")
    assert rough.num_parameters() == exact.num_parameters()
    one, other = exact.encode_speech(features, lengths), rough.encode_speech(features, lengths)
    difference = (one.encoded - other.encoded)[one.mask].norm() / one.encoded[one.mask].norm()
    assert 0 < float(difference) < 0.05
    layers = [part for part in rough.modules() if isinstance(part, nn.Linear)]
    assert not [layer for layer in layers if layer.weight.numel() > 64 * 64]
    found = search(rough, other, SearchOptions(beam=3))
    assert all(hypotheses for hypotheses in found)
    assert rough.align_log_probs(other).shape == (2, 80, 30)


def test_padding_changes_little():
    """One scale a tensor: a batch shifts rounding, no more."""
    rough = quantize(model(), "int8")
    features, lengths = torch.randn(2, 80, 40), torch.tensor([80, 61])
    with torch.inference_mode():
        both = rough.encode_speech(features, lengths).encoded[1, :16]
        alone = rough.encode_speech(features[1:, :61], lengths[1:]).encoded[0]
    assert float((both - alone).norm() / alone.norm()) < 0.05


def test_unknown_precisions():
    with pytest.raises(ConfigError, match="found 'int4'; expected int8"):
        quantize(model(), "int4")

"""A second encoder under the heads: what the protocol asks for is all they need."""

from pathlib import Path

import pytest
import torch
from torch import nn

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.bundle import save_bundle
from speechmm.models.encoder import Encoded, Encoder
from speechmm.models.speech_text import SpeechTextModel, make_encoder
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer_training import train_tokenizer

CONFIG = SpeechTextConfig(
    d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1, front_channels=4
)
WIDTH, SUBSAMPLING = 24, 2


class PairEncoder(nn.Module):
    """Every two feature frames as one vector: nothing of ours but the protocol."""

    width = WIDTH
    subsampling = SUBSAMPLING

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(SUBSAMPLING * channels, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> Encoded:
        batch, frames, channels = inputs.shape
        padded = nn.functional.pad(inputs, (0, 0, 0, frames % SUBSAMPLING))
        middle = self.project(padded.view(batch, -1, SUBSAMPLING * channels))
        return Encoded(self.norm(middle), (lengths + 1) // SUBSAMPLING, middle)


@pytest.fixture
def model() -> SpeechTextModel:
    torch.manual_seed(0)
    return SpeechTextModel(CONFIG, vocab_size=12, n_mels=20, encoder=PairEncoder(20)).eval()


def test_both_encoders_follow_the_protocol() -> None:
    assert isinstance(PairEncoder(20), Encoder)
    assert isinstance(make_encoder(CONFIG, 20), Encoder)


@torch.no_grad()
def test_every_head_stands_on_it(model: SpeechTextModel) -> None:
    features, lengths = torch.randn(2, 51, 20), torch.tensor([51, 30])
    encoding = model.encode_speech(features, lengths)
    assert encoding.enc_lengths.tolist() == [26, 15]
    assert model.ctc_log_probs(encoding).shape == (2, 26, 12)
    assert model.ctc_log_probs(encoding, middle=True).shape == (2, 26, 12)
    assert model.decode(torch.tensor([[5], [6]]), encoding).logits.shape == (2, 2, 12)
    assert model.align_log_probs(encoding).shape == (2, 51, 12)
    assert len(search(model, encoding, SearchOptions(beam=2))) == 2
    alone = model.encode_speech(features[1:, :30], lengths[1:])
    torch.testing.assert_close(
        model.align_log_probs(encoding)[1, :30], model.align_log_probs(alone)[0]
    )


def test_all_of_it_learns(model: SpeechTextModel) -> None:
    encoding = model.encode_speech(torch.randn(2, 51, 20), torch.tensor([51, 30]))
    model.ctc_log_probs(encoding).square().sum().backward()
    assert model.encoder.project.weight.grad.any()


def test_a_bundle_that_could_not_be_loaded_is_not_written(
    model: SpeechTextModel, tmp_path: Path
) -> None:
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    with pytest.raises(ConfigError, match="stands on a PairEncoder"):
        save_bundle(tmp_path / "bundle", model, tokenizer, LogMelConfig(n_mels=20))
    assert not (tmp_path / "bundle").exists()

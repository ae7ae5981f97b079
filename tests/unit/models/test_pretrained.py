"""Encoders read from files of others: equal to transformers' outputs, whatever the padding."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechmm.errors import CheckpointError
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.encoder import Encoder
from speechmm.models.pretrained.configs import Wav2Vec2Config, WhisperConfig
from speechmm.models.pretrained.convolutions import ConvLayer, unit_variance
from speechmm.models.pretrained.folder import read_pretrained
from speechmm.models.pretrained.wav2vec2 import Wav2Vec2Encoder
from speechmm.models.pretrained.whisper import sinusoids, whisper_scale
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
FAMILY = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2-stable": ("Wav2Vec2", STABLE),
    "mms": ("Wav2Vec2", {**STABLE, "adapter_attn_dim": 8}),
    "hubert": ("Hubert", {}),
    "hubert-stable": ("Hubert", {**STABLE, "feat_proj_layer_norm": False}),
    "wavlm": ("WavLM", {"num_buckets": 32, "max_bucket_distance": 60}),
    "wavlm-stable": ("WavLM", {**STABLE, "num_buckets": 32, "max_bucket_distance": 60}),
}


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """No weight is 0 or 1: a bias left out would show."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(params=sorted(FAMILY))
def family(request: pytest.FixtureRequest, tmp_path: Path):
    kind, settings = FAMILY[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL, **settings)
    model = randomised(getattr(transformers, f"{kind}Model")(config))
    model.save_pretrained(tmp_path)
    return model, read_pretrained(tmp_path)


@torch.no_grad()
def test_waveform_encoders_equal_transformers(family) -> None:
    model, found = family
    encoder = found.encoder
    assert isinstance(encoder, Wav2Vec2Encoder)
    assert isinstance(encoder, Encoder)
    assert found.reads_waveforms
    waveform = torch.randn(2, 16_000)
    expected = model(waveform, output_hidden_states=True)
    encoded = encoder.eval().encode(waveform, torch.tensor([16_000, 16_000]))
    torch.testing.assert_close(encoded.frames, expected.last_hidden_state, atol=1e-4, rtol=1e-4)
    assert encoded.lengths.tolist() == [expected.last_hidden_state.shape[1]] * 2
    torch.testing.assert_close(encoded.middle, expected.hidden_states[1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_does_not_change_a_waveform(family) -> None:
    _, found = family
    encoder = found.encoder.eval()
    waveform = torch.randn(2, 9_000, 1) + 0.3
    lengths = torch.tensor([9_000, 5_003])
    both = encoder(waveform, lengths)
    assert both.lengths.tolist() == [29, 16]  # a frame every 320 samples, the first on sample 0
    alone = encoder(waveform[1:, :5_003], lengths[1:])
    torch.testing.assert_close(both.frames[1, :16], alone.frames[0, :16], atol=1e-5, rtol=1e-4)


def check_16_bits(encoder: Any, inputs: torch.Tensor, lengths: torch.Tensor) -> None:
    """In weights of 16 bits an encoder takes what it takes in float32, and says nearly the same."""
    expected = encoder(inputs, lengths).frames
    for dtype in (torch.bfloat16, torch.float16):
        encoder.to(dtype)
        found = encoder(inputs, lengths).frames
        assert found.dtype == encoder.below(inputs, lengths, 1)[0].dtype == dtype
        apart = (found.float() - expected).square().mean().sqrt()
        assert apart < 0.05 * expected.square().mean().sqrt()


@torch.no_grad()
def test_weights_in_16_bits_read_waveforms(family) -> None:
    check_16_bits(family[1].encoder.eval(), torch.randn(1, 9_000, 1), torch.tensor([9_000]))


@torch.no_grad()
def test_sums_over_seconds_fit_into_16_bits() -> None:
    torch.manual_seed(0)
    layer = ConvLayer(Wav2Vec2Config(), 0)
    waveform, lengths = 20 * torch.randn(1, 1, 48_000), torch.tensor([48_000])
    expected = layer(waveform, lengths)[0]
    found = layer.half()(waveform.half(), lengths)[0]
    torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=0.01)


@torch.no_grad()
def test_it_can_be_cut_below_every_layer(family) -> None:
    """What lies below and what lies above give together what the whole gives."""
    _, found = family
    encoder: Any = found.encoder
    inputs, lengths = torch.randn(2, 5000, 1), torch.tensor([5000, 3600])
    whole = encoder(inputs, lengths)
    for layers in range(encoder.depth + 1):
        parts = encoder.above(*encoder.below(inputs, lengths, layers), layers)
        torch.testing.assert_close(parts.frames, whole.frames)
        if layers <= encoder.depth // 2:
            torch.testing.assert_close(parts.middle, whole.middle)
    learned = {id(one) for part in encoder.parts_below(encoder.depth) for one in part.parameters()}
    missing = {name for name, one in encoder.named_parameters() if id(one) not in learned}
    assert missing <= {"encoder.layer_norm.weight", "encoder.layer_norm.bias"}


@torch.no_grad()
def test_frames_are_centred_where_the_toolkit_has_them(family) -> None:
    _, found = family
    encoder = found.encoder.eval()
    waveform = torch.randn(1, 12_800)
    padded = torch.nn.functional.pad(unit_variance(waveform, torch.tensor([12_800])), (200, 520))
    expected = encoder.encode(padded, torch.tensor([12_800 + 400 - 320]))
    encoded = encoder(waveform[:, :, None], torch.tensor([12_800]))
    assert encoder.subsampling == 2
    torch.testing.assert_close(
        encoded.frames[:, :40], expected.frames[:, :40], atol=1e-4, rtol=1e-4
    )


@pytest.fixture
def whisper(tmp_path: Path):
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        vocab_size=60,
        d_model=32,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_mel_bins=20,
        max_source_positions=50,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    model = randomised(transformers.WhisperForConditionalGeneration(config))
    model.save_pretrained(tmp_path)
    return model, tmp_path


@torch.no_grad()
def test_whisper_equals_transformers(whisper) -> None:
    model, folder = whisper
    found = read_pretrained(folder)
    assert not found.reads_waveforms
    assert all(name.startswith("model.decoder") or "proj_out" in name for name in found.unused)
    features = torch.randn(2, 100, 20)
    expected = model.model.encoder(features.transpose(1, 2), output_hidden_states=True)
    encoded = found.encoder.eval()(features, torch.tensor([100, 100]))
    torch.testing.assert_close(encoded.frames, expected.last_hidden_state, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(encoded.middle, expected.hidden_states[1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_whisper_takes_utterances_of_any_length(whisper) -> None:
    encoder = read_pretrained(whisper[1]).encoder.eval()
    features, lengths = torch.randn(2, 131, 20), torch.tensor([131, 44])
    both = encoder(features, lengths)
    assert both.lengths.tolist() == [66, 22]
    alone = encoder(features[1:, :44], lengths[1:])
    torch.testing.assert_close(both.frames[1, :22], alone.frames[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_weights_in_16_bits_read_features(whisper) -> None:
    encoder = read_pretrained(whisper[1]).encoder.eval()
    lengths = torch.tensor([131, 44])
    check_16_bits(encoder, whisper_scale(torch.randn(2, 131, 20), lengths), lengths)


@torch.no_grad()
def test_the_heads_stand_on_whisper(whisper) -> None:
    encoder = read_pretrained(whisper[1]).encoder
    config = SpeechTextConfig(d_model=32, heads=4, ff_dim=32, decoder_layers=1)
    model = SpeechTextModel(config, vocab_size=12, n_mels=20, encoder=encoder).eval()
    features, lengths = torch.randn(2, 131, 20) - 5.0, torch.tensor([131, 44])
    encoding = model.encode_speech(features, lengths)
    expected = encoder(whisper_scale(features, lengths), lengths)
    torch.testing.assert_close(encoding.encoded, expected.frames)
    assert model.ctc_log_probs(encoding).shape == (2, 66, 12)
    assert model.align_log_probs(encoding).shape == (2, 131, 12)
    assert len(search(model, encoding, SearchOptions(beam=2))) == 2


@torch.no_grad()
def test_with_silence_up_to_its_longest_whisper_hears_what_it_was_trained_on(whisper) -> None:
    model, folder = whisper  # of 1 s: 100 frames of features
    encoder = read_pretrained(folder).encoder.eval()
    encoder.config = dataclasses.replace(encoder.config, trailing_silence=1.0)
    features, lengths = torch.randn(2, 70, 20) - 5.0, torch.tensor([70, 33])
    encoded = encoder(whisper_scale(features, lengths), lengths)
    assert encoded.lengths.tolist() == [50, 50]
    for row, length in enumerate(lengths):
        padded = torch.full((1, 100, 20), math.log(1e-10))  # digital silence
        padded[0, :length] = features[row, :length]
        theirs = model.model.encoder(whisper_scale(padded, torch.tensor([100])).transpose(1, 2))
        torch.testing.assert_close(
            encoded.frames[row], theirs.last_hidden_state[0], atol=1e-4, rtol=1e-4
        )


@torch.no_grad()
def test_only_the_decoder_hears_the_silence(whisper) -> None:
    encoder = read_pretrained(whisper[1]).encoder
    encoder.config = dataclasses.replace(encoder.config, trailing_silence=0.2)
    config = SpeechTextConfig(d_model=32, heads=4, ff_dim=32, decoder_layers=1)
    model = SpeechTextModel(config, vocab_size=12, n_mels=20, encoder=encoder).eval()
    features, lengths = torch.randn(3, 120, 20) - 5.0, torch.tensor([120, 43, 90])
    encoding = model.encode_speech(features, lengths)
    assert encoding.enc_lengths.tolist() == [60, 22, 45]
    # 20 frames of features each, but none beyond 1 s, and of the longest none at all
    assert encoding.heard_mask.sum(dim=1).tolist() == [60, 32, 50]
    assert encoding.mask.sum(dim=1).tolist() == [60, 22, 45]
    kept = encoding.select(torch.tensor([1]))
    torch.testing.assert_close(kept.heard_mask, encoding.heard_mask[1:2])
    # other utterances beside it change nothing
    alone = model.encode_speech(features[1:2, :43], lengths[1:2])
    torch.testing.assert_close(alone.encoded[0, :32], encoding.encoded[1, :32])
    tokens = torch.tensor([[4, 5, 6]])
    said = model.decode(tokens, alone).logits
    torch.testing.assert_close(said, model.decode(tokens, kept).logits)
    without = dataclasses.replace(alone, heard_lengths=None)
    assert not torch.allclose(said, model.decode(tokens, without).logits, atol=1e-3)


@pytest.mark.parametrize("seconds", [-1.0, 31.0])
def test_silence_of_no_possible_length_is_refused(seconds: float) -> None:
    config = WhisperConfig(
        d_model=32,
        encoder_layers=1,
        encoder_attention_heads=4,
        encoder_ffn_dim=48,
        trailing_silence=seconds,
    )
    with pytest.raises(ValueError, match="trailing_silence is"):
        config.check()


def test_whisper_positions_go_on_by_their_formula() -> None:
    published = transformers.models.whisper.modeling_whisper.sinusoids(1500, 384)
    torch.testing.assert_close(sinusoids(1500, 384), published, atol=2e-4, rtol=0)


def test_whisper_features_are_scaled_as_it_was_trained() -> None:
    power = torch.rand(1, 40, 80) ** 12 + 1e-10
    logarithms = power.log10()
    expected = (torch.maximum(logarithms, logarithms.max() - 8.0) + 4.0) / 4.0
    padded = torch.nn.functional.pad(power.log(), (0, 0, 0, 7), value=9.0)
    scaled = whisper_scale(padded, torch.tensor([40]))
    torch.testing.assert_close(scaled[:, :40], expected)
    assert not scaled[:, 40:].any()


def test_half_precision_and_shards_are_read(whisper) -> None:
    model, folder = whisper
    expected = read_pretrained(folder).encoder.state_dict()
    model.half().save_pretrained(folder / "halved", max_shard_size="20KB")
    assert len(list((folder / "halved").glob("*.safetensors"))) > 1
    found = read_pretrained(folder / "halved").encoder.state_dict()
    assert {value.dtype for value in found.values()} == {torch.float32}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'; expected one of whisper, wav2vec2"),
        ({"d_model": 36}, "has the shape"),
        ({"encoder_layers": 4}, "weights of the encoder are missing"),
        ({"encoder_layers": 10**9}, "1000000000 layers"),
        ({"d_model": "32"}, "'32'"),
        ({"activation_function": "relu"}, "not gelu"),
        ({"encoder_attention_heads": 5}, "with 5 heads"),
    ],
)
def test_what_does_not_fit_is_refused(whisper, change, message: str) -> None:
    folder = whisper[1]
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        read_pretrained(folder)


def test_damaged_folders_are_refused(whisper, tmp_path: Path) -> None:
    folder = whisper[1]
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match="is a pickle, which could run code"):
        read_pretrained(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
    with pytest.raises(CheckpointError, match=r"there is no model\.safetensors"):
        read_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_pretrained(folder)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="it holds list, no object"):
        read_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        read_pretrained(folder / "nowhere")

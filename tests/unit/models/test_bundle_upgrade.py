"""A bundle of version 1 of the format gives what it gave, from a folder written as it was then."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechmm.audio.log_mel import LogMelConfig
from speechmm.models.bundle import file_sha256, load_bundle, save_bundle, set_confidence
from speechmm.models.bundle_config import ConfidenceInfo, TrainingInfo
from speechmm.models.bundle_upgrade import OLD_FORMAT
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer_training import train_tokenizer

CONFIG = SpeechTextConfig(
    d_model=16,
    heads=2,
    ff_dim=16,
    encoder_layers=2,
    decoder_layers=1,
    front_channels=4,
    utterance_cmn=True,
    attention_window=3,
)
OLD_NAMES = {
    "encoder.front_end.": "front_end.",
    "encoder.stack.": "encoder.",
    "heads.decoder.embedding.": "token_embedding.",
    "heads.decoder.tags.": "tag_embedding.",
    "heads.decoder.stack.": "decoder.",
    "heads.decoder.output.": "token_head.",
    "heads.ctc.": "ctc_head.",
    "heads.align.": "alignment_head.",
}


def write_old(path: Path, outputs: list[str] | None) -> SpeechTextModel:
    """Writes a bundle as version 1 did; the model in it, by today's names."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    model = SpeechTextModel(CONFIG, vocab_size=tokenizer.vocab_size, n_mels=20).eval()
    save_bundle(path, model, tokenizer, LogMelConfig(n_mels=20), training=TrainingInfo(seed=7))
    weights = {}
    for name, value in load_file(path / "model.safetensors").items():
        today = next((start for start in OLD_NAMES if name.startswith(start)), None)
        old = name if today is None else OLD_NAMES[today] + name.removeprefix(today)
        weights[old] = value
    modality = torch.randn(2, CONFIG.d_model)
    weights["modality.weight"] = modality
    weights["front_end.norm.bias"] = weights["front_end.norm.bias"] - modality[0]
    save_file(weights, path / "model.safetensors")
    config = json.loads((path / "config.json").read_text())
    del config["heads"], config["tags"]
    dimensions = config["model"]
    dimensions["utterance_mean"] = dimensions.pop("utterance_cmn")
    dimensions["reach"] = dimensions.pop("attention_window")
    config["format"] = OLD_FORMAT
    config["training"] |= {"objectives": {"ctc_weight": 0.4}}
    if outputs is not None:
        config["training"]["outputs"] = outputs
    config["weights_sha256"] = file_sha256(path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return model


@torch.no_grad()
def test_the_same_numbers(tmp_path: Path) -> None:
    model = write_old(tmp_path / "old", None)
    loaded = load_bundle(tmp_path / "old")
    assert loaded.model.config == CONFIG
    assert loaded.heads == {"ctc", "decoder", "align"}
    features, lengths = torch.randn(2, 50, 20), torch.tensor([50, 31])
    tokens = torch.tensor([[5, 6], [6, 5]])
    before, after = (one.encode_speech(features, lengths) for one in (model, loaded.model))
    torch.testing.assert_close(model.ctc_log_probs(before), loaded.model.ctc_log_probs(after))
    torch.testing.assert_close(
        model.decode(tokens, before).logits, loaded.model.decode(tokens, after).logits
    )
    torch.testing.assert_close(model.align_log_probs(before), loaded.model.align_log_probs(after))


@pytest.mark.parametrize("outputs", [["ctc"], ["decoder", "align"]])
def test_what_was_not_trained_is_not_there(tmp_path: Path, outputs: list[str]) -> None:
    write_old(tmp_path / "old", outputs)
    assert load_bundle(tmp_path / "old").heads == set(outputs)


def test_calibration_changes_nothing_else_of_an_old_bundle(tmp_path: Path) -> None:
    write_old(tmp_path / "old", ["ctc"])
    before = json.loads((tmp_path / "old" / "config.json").read_text())
    found = ConfidenceInfo(scale=0.5, bias=0.1)
    set_confidence(tmp_path / "old", "ctc", found)
    after = json.loads((tmp_path / "old" / "config.json").read_text())
    assert after.pop("confidence").keys() == {"ctc"}
    assert after == before
    loaded = load_bundle(tmp_path / "old")
    assert loaded.heads == {"ctc"}
    assert loaded.confidence["ctc"] == found


def test_an_auxiliary_head_stays_out_of_the_bundle(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    model = SpeechTextModel(CONFIG, vocab_size=tokenizer.vocab_size, n_mels=20)
    model.heads["rate"] = torch.nn.Linear(CONFIG.d_model, 1)
    save_bundle(tmp_path / "new", model, tokenizer, LogMelConfig(n_mels=20))
    assert not any("rate" in name for name in load_file(tmp_path / "new" / "model.safetensors"))
    assert load_bundle(tmp_path / "new").heads == {"ctc", "decoder", "align"}


def test_a_command_with_a_name_that_is_not_utf8_is_kept(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    model = SpeechTextModel(CONFIG, vocab_size=tokenizer.vocab_size, n_mels=20)
    info = TrainingInfo(command="speechmm fit --config caf\udce9.yaml")
    save_bundle(tmp_path / "b", model, tokenizer, LogMelConfig(n_mels=20), training=info)
    assert load_bundle(tmp_path / "b").training.command == info.command

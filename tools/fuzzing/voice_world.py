"""Makes what ``synthesize`` is attacked with: a voice, vocoders, names and rates."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechmm.models.speech_text_config import SpeechTextConfig

SIZES = {
    "upsample_rates": [5, 8, 5],
    "upsample_kernel_sizes": [7, 16, 11],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
}


def make_voice(root: Path) -> None:
    """A bundle that speaks, a HiFi-GAN, a graph, and values of flags; nothing is trained."""
    import torch

    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.models.bundle import save_bundle
    from speechmm.models.speech_text import SpeechTextModel
    from speechmm.models.voice import VoiceConfig
    from speechmm.text.tokenizer import Tokenizer

    torch.manual_seed(0)
    bands = LogMelConfig(n_mels=20, n_fft=512, win_length=512, hop_length=200)
    tokenizer = Tokenizer.load(root / "texts" / "char.json")
    model = SpeechTextModel(
        small_network(),
        vocab_size=tokenizer.vocab_size,
        n_mels=80,
        align_vocab_size=tokenizer.align_vocab_size,
        voice=VoiceConfig(mel=bands, speakers=("ann", "bob"), token_layers=1, mel_layers=1),
    )
    assert model.voice is not None
    model.voice.duration.bias.data.fill_(1.0)
    save_bundle(root / "voice", model, tokenizer, LogMelConfig())
    _make_vocoders(root, bands)
    for folder, values in (
        ("voice-names", ("ann", "bob", "Ann", "ann bob")),
        ("voice-rates", ("1", "0.25", "4.0", "1e0", "2")),
    ):
        (root / folder).mkdir()
        for number, value in enumerate(values):
            (root / folder / f"{number}.txt").write_text(value, "utf-8")


def small_network() -> SpeechTextConfig:
    """The dimensions of a network that is made in no time."""
    from speechmm.models.speech_text_config import SpeechTextConfig

    return SpeechTextConfig(
        d_model=16, heads=2, ff_dim=16, encoder_layers=1, decoder_layers=1, front_channels=4
    )


def _make_vocoders(root: Path, bands: object) -> None:
    from safetensors.torch import save_file

    from speechmm.models.pretrained.hifigan import HifiGan, HifiGanConfig

    described = asdict(bands)  # type: ignore[call-overload]
    (root / "vocoder").mkdir()
    config = {**SIZES, **described, "model_in_dim": 20, "f_max": 8000, "normalize_before": True}
    (root / "vocoder" / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(
        HifiGan(HifiGanConfig(model_in_dim=20, **SIZES)).state_dict(),  # type: ignore[arg-type]
        root / "vocoder" / "model.safetensors",
    )
    (root / "vocoder-graph").mkdir()
    values = {**described, "log": "natural", "magnitude": "power"}
    (root / "vocoder-graph" / "small.json").write_text(json.dumps(values), "utf-8")
    _make_graph(root / "vocoder-graph" / "small.onnx")


def _make_graph(path: Path) -> None:
    """A graph that gives ten samples of each value; nothing where onnx is not installed."""
    try:
        from onnx import helper, numpy_helper, save
    except ImportError:
        return
    import numpy as np

    given = helper.make_tensor_value_info("mel", 1, [1, 20, "frames"])
    found = helper.make_tensor_value_info("sound", 1, None)
    repeats = numpy_helper.from_array(np.array([1, 1, 10], np.int64), "repeats")
    node = helper.make_node("Tile", ["mel", "repeats"], ["sound"])
    graph = helper.make_graph([node], "g", [given], [found], [repeats])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(made, path)

"""Neural vocoders of the user's: equal to transformers, in parts as at once, wrong ones refused."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load, load_file, save_file

import speechmm
from speechmm.audio.log_mel import LogMelConfig
from speechmm.cli.main import main
from speechmm.errors import CheckpointError, ConfigError
from speechmm.inference.synthesis.synthesizer import Synthesizer
from speechmm.inference.synthesis.vocoders import CONTEXT, load_vocoder
from speechmm.models.bundle import load_bundle, save_bundle
from speechmm.models.pretrained.hifigan import HifiGan, HifiGanConfig, read_hifigan
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.vocoder_mel import VocoderMel
from speechmm.models.voice import VoiceConfig
from speechmm.text.tokenizer_training import train_tokenizer

transformers = pytest.importorskip("transformers")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZES = {
    "upsample_rates": [5, 5, 8],
    "upsample_kernel_sizes": [11, 7, 16],
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 5]],
}
HOP = 200
BANDS = LogMelConfig(
    n_mels=20, n_fft=1024, win_length=1024, hop_length=HOP, f_min=80.0, f_max=7600.0
)


def randomised(model: torch.nn.Module) -> Any:
    """No weight is 0 or 1, and the sound is not 0."""
    generator = torch.Generator().manual_seed(1)
    for value in (*model.parameters(), *model.buffers()):
        value.data += 0.3 * torch.randn(value.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> tuple[Any, Path]:
    """SpeechT5's vocoder, small and random, as transformers saves it."""
    config = transformers.SpeechT5HifiGanConfig(model_in_dim=20, sampling_rate=16000, **SIZES)
    model = randomised(transformers.SpeechT5HifiGan(config))
    folder = tmp_path_factory.mktemp("hifigan")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A voice that says such log-mel, untrained, but for tokens that last."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["go home now a word"], kind="char")
    model = SpeechTextModel(
        SpeechTextConfig(
            d_model=16, heads=2, ff_dim=16, encoder_layers=2, decoder_layers=1, front_channels=4
        ),
        vocab_size=tokenizer.vocab_size,
        n_mels=80,
        align_vocab_size=tokenizer.align_vocab_size,
        voice=VoiceConfig(mel=BANDS, token_layers=1, mel_layers=1),
    )  # fmt: skip
    model.voice.duration.bias.data.fill_(1.8)
    model.voice.mel_mean.fill_(-6.0)
    path = tmp_path_factory.mktemp("voice") / "bundle"
    save_bundle(path, model, tokenizer, LogMelConfig())
    return path


def log_mel(frames: int) -> torch.Tensor:
    return torch.randn(frames, 20, generator=torch.Generator().manual_seed(frames)) - 5.0


@torch.no_grad()
def test_it_equals_transformers(theirs):
    model, folder = theirs
    ours, mel = read_hifigan(folder)
    both = torch.randn(2, 31, 20)
    expected = model(both)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(both), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours(both[1:]), expected[1:], atol=1e-5, rtol=1e-4)
    assert mel == VocoderMel(bands=BANDS, log="10", floor=1e-10, center=True)


@torch.no_grad()
def test_weight_norm_may_be_folded_or_not(theirs, tmp_path: Path):
    model, _ = theirs
    plain = transformers.SpeechT5HifiGan(model.config)
    plain.load_state_dict(model.state_dict())
    plain.apply_weight_norm()
    plain.save_pretrained(tmp_path / "new")
    new = load_file(tmp_path / "new" / "model.safetensors")
    assert any("parametrizations" in name for name in new)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g")
        .replace("parametrizations.weight.original1", "weight_v"): value
        for name, value in new.items()
    }  # fmt: skip
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    save_file(old, tmp_path / "old" / "model.safetensors")
    given = torch.randn(1, 12, 20)
    for name in ("new", "old"):
        found, _ = read_hifigan(tmp_path / name)
        torch.testing.assert_close(found(given), model(given), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["1", "2"])
@pytest.mark.parametrize("prefix", ["", "generator."])
def test_its_authors_names_and_config(tmp_path: Path, kind: str, prefix: str):
    model = randomised(HifiGan(HifiGanConfig(model_in_dim=20, resblock=kind, **SIZES)))
    names = {name for name, _ in model.named_parameters()}
    assert {"conv_pre.weight", "ups.2.bias", "conv_post.weight"} <= names
    convs = "convs1.0" if kind == "1" else "convs.0"
    assert f"resblocks.5.{convs}.weight" in names
    weights = {prefix + name: value.contiguous() for name, value in model.named_parameters()}
    save_file(weights, tmp_path / "generator_v1.safetensors")
    config = SIZES | {"resblock": kind, "num_mels": 20, "n_fft": 1024, "hop_size": HOP,
                      "win_size": 1024, "sampling_rate": 16000, "fmin": 80, "fmax": 7600}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    vocoder = load_vocoder(tmp_path / "generator_v1.safetensors", BANDS)
    assert vocoder.mel == VocoderMel(bands=BANDS)  # natural log of amplitude
    given = log_mel(9)
    expected = model(vocoder.mel.of(given)[None])[0]
    torch.testing.assert_close(vocoder([given]), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(CheckpointError, match=r"there is no model.safetensors"):
        load_vocoder(tmp_path, BANDS)


# in parts


def test_pieces_meet_as_if_made_at_once(theirs):
    vocoder = load_vocoder(theirs[1], BANDS)
    whole = log_mel(300)
    at_once = vocoder([whole])
    assert len(at_once) == 300 * HOP
    for cuts in ([100, 200], [1, 150, 151, 153, 299]):
        pieces = list(torch.tensor_split(whole, cuts))
        torch.testing.assert_close(vocoder(pieces), at_once, atol=1e-4, rtol=1e-4)
    assert vocoder([whole[:1]]).shape == (HOP,)


def test_no_more_is_heard_than_a_sample_depends_on(theirs):
    model, _ = read_hifigan(theirs[1])
    reach = model.config.reach
    assert reach < CONTEXT
    mel = torch.randn(1, 4 * reach, 20, requires_grad=True)
    samples = model(mel)[0]
    samples[2 * reach * HOP : (2 * reach + 1) * HOP].sum().backward()
    heard = mel.grad[0].abs().sum(dim=1).nonzero().flatten() - 2 * reach
    assert -reach <= heard.min() <= -reach + 4
    assert reach - 4 <= heard.max() <= reach


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:No names were found")
@pytest.mark.parametrize("layout", ["bands first", "frames first"])
def test_graphs_sound_as_what_they_were_made_of(theirs, tmp_path: Path, layout: str):
    path, model = graph(theirs, tmp_path, layout)
    vocoder = load_vocoder(path, BANDS)
    for frames in (1, 40):
        given = log_mel(frames)
        with torch.no_grad():
            expected = model(vocoder.mel.of(given))
        torch.testing.assert_close(vocoder([given]), expected, atol=1e-4, rtol=1e-3)
    pieces = [log_mel(150), log_mel(120), log_mel(2)]
    torch.testing.assert_close(vocoder(pieces), vocoder([torch.cat(pieces)]), atol=1e-5, rtol=1e-3)


class Graph(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, layout: str):
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return self.model(mel.transpose(1, 2) if self.layout == "bands first" else mel)


def graph(theirs, folder: Path, layout: str) -> tuple[Path, Any]:
    """transformers' vocoder as a graph, and its description."""
    model, _ = theirs
    path, example = folder / "sound.onnx", torch.zeros(1, 20, 12)
    example = example if layout == "bands first" else example.transpose(1, 2)
    torch.onnx.export(
        Graph(model, layout),
        (example,),
        str(path),
        dynamo=False,
        input_names=["mel"],
        dynamic_axes={"mel": [2 if layout == "bands first" else 1]},
    )
    description = asdict(BANDS) | {"log": "10", "magnitude": "amplitude", "floor": 1e-10}
    (folder / "sound.json").write_text(json.dumps(description))
    return path, model


# speaking


TEXT = "go home now. a word"


@pytest.mark.parametrize("center", [True, False])
def test_a_bundle_speaks_through_it(theirs, bundle: Path, tmp_path: Path, center: bool):
    folder = tmp_path / "vocoder"
    shutil.copytree(theirs[1], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"center": center}))
    synthesizer = Synthesizer(load_bundle(bundle))
    plain = synthesizer.synthesize(TEXT)
    speech = synthesizer.synthesize(TEXT, vocoder=folder)
    assert torch.equal(plain.log_mel, speech.log_mel)
    assert len(speech.samples) == len(speech.log_mel) * HOP
    assert speech.samples.abs().max() <= 1
    assert speech.duration == pytest.approx(speech.alignment.duration)
    expected = load_vocoder(folder, BANDS)([speech.log_mel])
    torch.testing.assert_close(speech.samples, expected, atol=1e-5, rtol=1e-3)
    shift = 0.0 if center else 0.5 * BANDS.frame_shift
    for one, other in zip(plain.alignment.words, speech.alignment.words, strict=True):
        assert other.start == pytest.approx(one.start + shift)
    again = synthesizer.synthesize(TEXT, vocoder=folder)
    assert torch.equal(again.samples, speech.samples)


def test_long_texts_are_spoken_in_parts_that_meet(theirs, bundle: Path, monkeypatch):
    synthesizer = Synthesizer(load_bundle(bundle))
    monkeypatch.setattr("speechmm.inference.synthesis.synthesizer.PIECE_SECONDS", 0.5)
    speech = synthesizer.synthesize(" ".join(["go home now"] * 8), vocoder=theirs[1])
    expected = load_vocoder(theirs[1], BANDS)([speech.log_mel])
    torch.testing.assert_close(speech.samples, expected, atol=1e-5, rtol=1e-3)


# what is wrong


def described(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"upsample_kernel_sizes": [11, 7, 8]}, "ups.2.weight has the shape"),
        ({"upsample_kernel_sizes": [11, 7, 15]}, "upsample rate 8 with kernel 15"),
        ({"upsample_rates": "5"}, "upsample_rates: found 5"),
        ({"upsample_rates": []}, "its lists have"),
        ({"upsample_rates": [5, 5]}, "different lengths"),
        ({"upsample_rates": [5, 5, 0]}, "upsample rate 0"),
        ({"upsample_initial_channel": 4096}, " has the shape"),
        ({"upsample_initial_channel": 1e99}, "upsample_initial_channel"),
        ({"resblock_kernel_sizes": [3, 8]}, "resblock_kernel_sizes are"),
        ({"resblock_dilation_sizes": [[1, 3], 5]}, "resblock_dilation_sizes: found"),
        ({"resblock_dilation_sizes": [[1, 3], [1, True]]}, "resblock_dilation_sizes: found"),
        ({"resblock": "3"}, "resblock '3'"),
        ({"leaky_relu_slope": "steep"}, "leaky_relu_slope: found 'steep'"),
        ({"hop_length": 256}, "hop_length is 256, and its upsample_rates make 200"),
        ({"sampling_rate": None}, "there is no sample_rate"),
        ({"model_in_dim": 1000000}, "1000000 mel bands"),
        ({"mel_scale": "htk"}, "mel_scale: found 'htk'"),
    ],
)
def test_damaged_configs_are_refused_in_one_line(theirs, tmp_path, changes: dict, said: str):
    folder = tmp_path / "vocoder"
    shutil.copytree(theirs[1], folder)
    described(folder, **changes)
    with pytest.raises(CheckpointError) as raised:
        load_vocoder(folder, BANDS)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_damaged_weights_are_refused_in_one_line(theirs, tmp_path):
    folder = tmp_path / "vocoder"
    shutil.copytree(theirs[1], folder)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    weights = load(whole)
    file.write_bytes(whole[:200])
    with pytest.raises(CheckpointError, match=r"model.safetensors: cannot be read"):
        load_vocoder(folder, BANDS)
    save_file({name: one for name, one in weights.items() if name != "mean"}, file)
    with pytest.raises(CheckpointError, match="1 weights of the vocoder are missing, mean"):
        load_vocoder(folder, BANDS)
    described(folder, normalize_before=False)  # which needs none
    load_vocoder(folder, BANDS)
    save_file(weights | {"conv_post.bias": torch.full((1,), torch.nan)}, file)
    with pytest.raises(CheckpointError, match="its samples are not numbers"):
        load_vocoder(folder, BANDS)([log_mel(5)])


def test_another_log_mel_is_refused(theirs):
    for other in (
        replace(BANDS, f_max=None), replace(BANDS, hop_length=256), replace(BANDS, sample_rate=22050)
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"the vocoder's log-mel has .* as the model's"):
            load_vocoder(theirs[1], other)


def test_pickles_are_refused_and_not_read(tmp_path: Path):
    for name in ("generator.pt", "g_02500000.ckpt"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch x'\ntR.")
        for path in (tmp_path / name, tmp_path):
            with pytest.raises(
                CheckpointError, match="is a pickle, which could run code"
            ) as raised:
                load_vocoder(path, BANDS)
            assert "safetensors.torch.save_file" in str(raised.value)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        load_vocoder(tmp_path / "nothing", BANDS)
    (tmp_path / "x.wav").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is no vocoder that is known"):
        load_vocoder(tmp_path / "x.wav", BANDS)


def small_graph(path: Path, *, shape: list[Any], factor: int, kind: int = 1) -> None:
    """A graph that gives ``factor`` samples a value of the input."""
    helper = onnx.helper
    given = helper.make_tensor_value_info("mel", kind, shape)
    found = helper.make_tensor_value_info("sound", kind, None)
    repeats = onnx.numpy_helper.from_array(
        np.array([1] * (len(shape) - 1) + [factor], np.int64), "repeats"
    )
    made = helper.make_graph(
        [helper.make_node("Tile", ["mel", "repeats"], ["sound"])], "g", [given], [found], [repeats]
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("shape", "factor", "kind", "description", "said"),
    [
        ([1, 20, "t"], 10, 1, {}, None),
        (["t", 20], 10, 1, {}, None),
        ([1, "a", "b"], 10, 1, {"layout": "frames first"}, None),
        ([1, 20, "t"], 9, 1, {}, "gave 720 samples; expected 800"),
        ([1, 80, "t"], 10, 1, {}, "expected 20 mel bands, bands first"),
        ([1, "t", 20], 10, 1, {"layout": "bands first"}, "expected 20 mel bands, bands first"),
        ([1, 20, "t"], 10, 1, {"layout": "x"}, "its description's layout is 'x'"),
        ([1, 1, 20, "t"], 10, 1, {}, "with 2 or 3 axes"),
        ([1, 20, "t"], 10, 11, {}, "expected one of float32"),
        ([1, 20, "t"], 10, 1, {"log": None}, "log: found"),
        ([1, 20, 7], 10, 1, {}, "onnxruntime cannot run it"),
    ],
)
def test_graphs_of_all_kinds(tmp_path, shape, factor, kind, description, said):  # noqa: PLR0917
    path = tmp_path / "small.onnx"
    small_graph(path, shape=shape, factor=factor, kind=kind)
    values = asdict(BANDS) | {"log": "natural", "magnitude": "power"} | description
    (tmp_path / "config.json").write_text(json.dumps(values))
    if said is None:
        assert load_vocoder(path, BANDS)([log_mel(4)]).shape == (4 * HOP,)
        return
    with pytest.raises(CheckpointError) as raised:
        load_vocoder(path, BANDS)([log_mel(4)])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_graphs_without_a_description_or_damaged_are_refused(tmp_path):
    path = tmp_path / "small.onnx"
    small_graph(path, shape=[1, 20, "t"], factor=10)
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read"):
        load_vocoder(path, BANDS)
    (tmp_path / "small.json").write_text(json.dumps(asdict(BANDS)))
    with pytest.raises(CheckpointError, match="there is no log"):
        load_vocoder(path, BANDS)
    (tmp_path / "small.json").write_text(
        json.dumps(asdict(BANDS) | {"log": "10", "magnitude": "power"})
    )
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="onnxruntime cannot run it"):
        load_vocoder(path, BANDS)


def test_by_command_and_from_python(theirs, bundle: Path, tmp_path: Path, capsys):
    folder, out = theirs[1], tmp_path / "a.wav"
    arguments = ["synthesize", TEXT, "--model", str(bundle), "--out", str(out), "--vocoder"]
    assert main([*arguments, str(folder)]) == 0
    samples, rate = soundfile.read(out, dtype="float32")
    speech = speechmm.load(bundle).synthesize(TEXT, vocoder=str(folder))
    assert rate == 16000
    torch.testing.assert_close(torch.from_numpy(samples), speech.samples, atol=1 / 30000, rtol=0)
    (tmp_path / "generator.pt").touch()
    out.unlink()
    assert main([*arguments, str(tmp_path / "generator.pt")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "generator.pt: is a pickle" in line
    assert not out.exists()

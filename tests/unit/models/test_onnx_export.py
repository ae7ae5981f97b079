"""Exported graphs say what the model says."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.cli.main import main
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models import onnx_export
from speechmm.models.bundle import Bundle, load_bundle, save_bundle
from speechmm.models.speech_text import SpeechTextModel
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.text.tokenizer import BLANK, BOS, EOS, SIL
from speechmm.text.tokenizer_training import train_tokenizer

onnxruntime = pytest.importorskip("onnxruntime")

PLAIN = SpeechTextConfig(
    d_model=32, heads=2, ff_dim=64, encoder_layers=3, decoder_layers=2, front_channels=8
)
FULL = dataclasses.replace(PLAIN, middle_stride=2, utterance_cmn=True, attention_window=5)


@pytest.fixture(scope="module", params=[PLAIN, FULL], ids=["plain", "full"])
def exported(request, tmp_path_factory) -> tuple[Bundle, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("exported") / "with spaces ü"
    root.mkdir()
    tokenizer = train_tokenizer(["ab cd ef gh"], kind="char")
    features = LogMelConfig(n_mels=20)
    model = SpeechTextModel(request.param, vocab_size=tokenizer.vocab_size, n_mels=20)
    save_bundle(root / "bundle", model, tokenizer, features)
    # A program of its own: shapes are symbols while exporting, which the suite's checks refuse.
    command = [sys.executable, "-m", "speechmm", "export", root / "bundle", root / "onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "decoder_step.onnx: " in done.stdout
    return load_bundle(root / "bundle"), root / "onnx"


def speech(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(len(lengths))
    return 3 * torch.randn(len(lengths), max(lengths), 20), torch.tensor(lengths)


def encode(folder: Path, features: torch.Tensor, lengths: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(folder / onnx_export.ENCODER)
    return session.run(None, {"features": features.numpy(), "lengths": lengths.numpy()})


@pytest.mark.parametrize("lengths", [(57,), (90, 31, 64), (1,), (8, 8)])
def test_encoders_agree(lengths, exported) -> None:
    bundle, folder = exported
    features, sizes = speech(*lengths)
    log_probs, mask, *_ = encode(folder, features, sizes)
    with torch.inference_mode():
        encoding = bundle.model.encode_speech(features, sizes)
        expected = bundle.model.ctc_log_probs(encoding)
    assert torch.equal(torch.from_numpy(mask), encoding.mask)
    found = torch.from_numpy(log_probs)
    torch.testing.assert_close(found[encoding.mask], expected[encoding.mask], atol=1e-4, rtol=1e-4)


def test_greedy_ctc_agrees(exported) -> None:
    bundle, folder = exported
    features, sizes = speech(90, 31, 64)
    log_probs, mask, *_ = encode(folder, features, sizes)
    with torch.inference_mode():
        encoding = bundle.model.encode_speech(features, sizes)
        expected = search(bundle.model, encoding, SearchOptions(decoder="ctc"))
    for row, (hypothesis,) in enumerate(expected):
        best = log_probs[row][mask[row]].argmax(-1).tolist()
        kept = [t for t, before in zip(best, [BLANK, *best], strict=False) if t != before]
        assert [token for token in kept if token != BLANK] == hypothesis.tokens


def test_a_greedy_decoder_in_the_runtime_alone_agrees(exported) -> None:
    bundle, folder = exported
    features, sizes = speech(90, 31, 64)
    _, mask, cross_keys, cross_values = encode(folder, features, sizes)
    session = onnxruntime.InferenceSession(folder / onnx_export.DECODER_STEP)
    layers, batch, heads, _, width = cross_keys.shape
    keys = values = np.zeros((layers, batch, heads, 0, width), np.float32)
    tokens, texts = np.full(batch, onnx_export.TAG), [[] for _ in range(batch)]
    limits = mask.sum(axis=1)
    for position in range(int(limits.max()) + 1):
        inputs = (tokens, np.array(position), mask, cross_keys, cross_values, keys, values)
        named = dict(zip(onnx_export.STEP_INPUTS, inputs, strict=True))
        log_probs, keys, values = session.run(None, named)
        log_probs[:, [BLANK, BOS, SIL]] = -np.inf
        tokens = log_probs.argmax(-1)
        for row, token in enumerate(tokens.tolist()):
            if not (texts[row] and texts[row][-1] == EOS):
                texts[row].append(token if len(texts[row]) < limits[row] else EOS)
    with torch.inference_mode():
        encoding = bundle.model.encode_speech(features, sizes)
        expected = search(bundle.model, encoding, SearchOptions(decoder="attention"))
    assert [text[:-1] for text in texts] == [found[0].tokens for found in expected]


def test_the_description_fits(exported) -> None:
    bundle, folder = exported
    found = json.loads((folder / "config.json").read_text("utf-8"))
    assert found["weights_sha256"] == bundle.sha256
    assert found["features"] == dataclasses.asdict(bundle.features)
    assert found["trained"] == ["align", "ctc", "decoder"]
    for name, file in (("encoder", "encoder.onnx"), ("decoder_step", "decoder_step.onnx")):
        session = onnxruntime.InferenceSession(folder / file)
        assert [one.name for one in session.get_inputs()] == found[name]["inputs"]
        assert [one.name for one in session.get_outputs()] == found[name]["outputs"]


@pytest.mark.parametrize("heads", [["ctc", "align"], ["decoder"]], ids=["ctc", "decoder"])
def test_a_model_with_some_heads_gives_what_it_has(
    heads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    model = SpeechTextModel(PLAIN, vocab_size=tokenizer.vocab_size, n_mels=20, heads=heads)
    save_bundle(tmp_path / "bundle", model, tokenizer, LogMelConfig(n_mels=20))
    written: dict[str, tuple[str, ...]] = {}

    def run(graph, example, shapes, path, *names) -> None:  # the graph, unexported
        _, outputs, _ = names
        with torch.no_grad():
            assert len(graph(*example)) == len(outputs)
        written[type(graph).__name__] = outputs

    monkeypatch.setattr(onnx_export, "_export", run)
    onnx_export.export_bundle(load_bundle(tmp_path / "bundle"), tmp_path / "onnx")
    description = json.loads((tmp_path / "onnx" / "config.json").read_text("utf-8"))
    assert list(written["EncoderGraph"]) == description["encoder"]["outputs"]
    assert ("ctc_log_probs" in description["encoder"]["outputs"]) == ("ctc" in heads)
    step = description["decoder_step"] is not None
    assert ("DecoderStepGraph" in written) == step == ("decoder" in heads)


@pytest.mark.parametrize("ending", ["EncoderGraph", "DecoderStepGraph"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_export_leaves_the_earlier_graphs(
    ending: str, error: BaseException, tmp_path: Path, monkeypatch, capsys
) -> None:
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    model = SpeechTextModel(PLAIN, vocab_size=tokenizer.vocab_size, n_mels=20)
    save_bundle(tmp_path / "bundle", model, tokenizer, LogMelConfig(n_mels=20))
    out = tmp_path / "onnx"
    out.mkdir()
    earlier = {name: name.encode() for name in (onnx_export.ENCODER, onnx_export.DECODER_STEP)}
    for name, content in earlier.items():
        (out / name).write_bytes(content)

    def half(graph, example, shapes, path, *names) -> None:
        path.write_bytes(b"half a graph")
        if type(graph).__name__ == ending:
            raise error

    monkeypatch.setattr(onnx_export, "_export", half)
    code = main(["export", str(tmp_path / "bundle"), str(out)])
    if isinstance(error, OSError):
        assert code == 2
        (line,) = capsys.readouterr().err.splitlines()
        name = onnx_export.ENCODER if ending == "EncoderGraph" else onnx_export.DECODER_STEP
        assert f"{out / name}: cannot be written (No space left on device)" in line
    else:
        assert code == 130
    assert {path.name: path.read_bytes() for path in out.iterdir()} == earlier


def test_a_model_that_only_aligns_is_refused(tmp_path: Path, capsys) -> None:
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    model = SpeechTextModel(PLAIN, vocab_size=tokenizer.vocab_size, n_mels=20, heads=["align"])
    save_bundle(tmp_path / "bundle", model, tokenizer, LogMelConfig(n_mels=20))
    assert main(["export", str(tmp_path / "bundle"), str(tmp_path / "onnx")]) == 2
    assert "it was trained to align only; expected CTC or a decoder" in capsys.readouterr().err


def test_without_the_extra(exported, monkeypatch, capsys) -> None:
    bundle, folder = exported
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", str(bundle.path), str(folder.parent / "other")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "onnxscript is not installed; expected the extra onnx" in line
    assert not (folder.parent / "other").exists()


@pytest.mark.parametrize("there", ["bundle", "tokenizer"])
def test_files_of_something_else_are_left_alone(there: str, tmp_path: Path, capsys) -> None:
    tokenizer = train_tokenizer(["ab cd"], kind="char")
    model = SpeechTextModel(PLAIN, vocab_size=tokenizer.vocab_size, n_mels=20)
    for name in ("one", "other"):
        save_bundle(tmp_path / name, model, tokenizer, LogMelConfig(n_mels=20))
    if there == "tokenizer":
        (tmp_path / "other" / "config.json").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()}
    assert main(["export", str(tmp_path / "one"), str(tmp_path / "other")]) == 2
    assert "is there and of no earlier export" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").iterdir()} == before

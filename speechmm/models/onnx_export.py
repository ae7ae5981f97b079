"""Exports a bundle as ONNX graphs, for programs without PyTorch."""

from __future__ import annotations

import dataclasses
import json
import logging
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from speechmm.errors import CheckpointError, ConfigError
from speechmm.files.atomic import write_aside, write_text
from speechmm.models.bundle import TOKENIZER_FILE, Bundle, read_settings
from speechmm.models.encoder import ConvTransformerEncoder
from speechmm.models.kv_cache import DecoderCache, LayerCache
from speechmm.models.speech_text import SpeechTextModel
from speechmm.text.languages import known_language, languages_of, tag_of

ENCODER, DECODER_STEP, CONFIG = "encoder.onnx", "decoder_step.onnx", "config.json"
FORMAT = "speechmm-onnx/1"
OPSET = 18
TAG = -1
"""The token that begins a text: it stands for what is asked of the decoder."""

ENCODER_INPUTS = ("features", "lengths")
ENCODER_OUTPUTS = ("ctc_log_probs", "enc_mask", "cross_keys", "cross_values")
"""Of a model with CTC and decoder; without one of them, its outputs are left out."""
STEP_INPUTS = ("tokens", "position", "enc_mask", "cross_keys", "cross_values", "keys", "values")
STEP_OUTPUTS = ("log_probs", "new_keys", "new_values")


class EncoderGraph(nn.Module):
    """Log-mel features to CTC and to what the decoder attends to."""

    def __init__(self, model: SpeechTextModel):
        super().__init__()
        self.model = model

    def forward(
        self, features: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Tensor, ...]:
        """Those of ``ENCODER_OUTPUTS`` that the model has, in their order."""
        encoding = self.model.encode_speech(features, lengths)
        outputs = [encoding.mask]
        if "ctc" in self.model.heads:
            outputs.insert(0, self.model.ctc_log_probs(encoding))
        if "decoder" in self.model.heads:
            layers = self.model.decode_init(encoding).layers
            keys = [layer.cross_keys for layer in layers if layer.cross_keys is not None]
            values = [layer.cross_values for layer in layers if layer.cross_values is not None]
            outputs += [torch.stack(keys), torch.stack(values)]
        return tuple(outputs)


def encoder_outputs(model: SpeechTextModel) -> tuple[str, ...]:
    """Names of what the encoder graph of a model gives."""
    absent = set()
    if "ctc" not in model.heads:
        absent.add("ctc_log_probs")
    if "decoder" not in model.heads:
        absent |= {"cross_keys", "cross_values"}
    return tuple(name for name in ENCODER_OUTPUTS if name not in absent)


class RowsCache:
    """Keys and values of every hypothesis for itself: what a graph takes and gives."""

    def __init__(self, own: Float[Tensor, "two rows heads past d_head"]):
        self.own = own

    def attend(
        self, projected: Float[Tensor, "three batch heads beams d_head"]
    ) -> Float[Tensor, "batch heads beams d_head"]:
        """Appends the new keys and values; attention of each row over its own tokens."""
        _, batch, heads, beams, width = projected.shape
        rows = projected.transpose(2, 3).reshape(3, batch * beams, heads, 1, width)
        self.own = torch.cat([self.own, rows[1:]], dim=3)
        mixed = F.scaled_dot_product_attention(rows[0], self.own[0], self.own[1])
        return mixed.view(batch, beams, heads, width).transpose(1, 2)


class DecoderStepGraph(nn.Module):
    """One token more for every hypothesis."""

    def __init__(self, model: SpeechTextModel, tag: str = "asr"):
        super().__init__()
        self.model = model
        self.place = model.decoder.names.index(tag)

    def forward(  # noqa: PLR0917 (inputs of a graph have an order)
        self,
        tokens: Int[Tensor, " rows"],
        position: Int[Tensor, ""],
        enc_mask: Bool[Tensor, "batch enc_frames"],
        cross_keys: Float[Tensor, "layers batch heads enc_frames d_head"],
        cross_values: Float[Tensor, "layers batch heads enc_frames d_head"],
        keys: Float[Tensor, "layers rows heads past d_head"],
        values: Float[Tensor, "layers rows heads past d_head"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs in the order of ``STEP_OUTPUTS``; ``TAG`` is the first token."""
        pasts = [RowsCache(own) for own in torch.stack([keys, values], dim=1)]
        layers = [LayerCache(*parts) for parts in zip(pasts, cross_keys, cross_values, strict=True)]
        bias = torch.zeros(enc_mask.shape, dtype=cross_keys.dtype)
        bias = bias.masked_fill(~enc_mask, float("-inf"))[:, None, None, :]
        cache = DecoderCache(layers, bias, enc_mask.shape[0], position=position)
        decoder = self.model.decoder
        embedded = decoder.embedding(tokens.clamp(min=0))
        x = torch.where((tokens < 0)[:, None], decoder.tags.weight[self.place], embedded)
        log_probs = decoder.output(decoder.stack.step(x, cache)).log_softmax(dim=-1)
        grown = torch.stack([past.own for past in pasts])
        return log_probs, grown[:, 0], grown[:, 1]


def export_bundle(
    bundle: Bundle, out: Path, *, opset: int = OPSET, language: str | None = None
) -> None:
    """Writes ``encoder.onnx``, ``decoder_step.onnx``, ``tokenizer.json`` and ``config.json``.

    Where a graph cannot be made or written, those of an earlier export stay as they were.

    Args:
        bundle: The model, on a CPU.
        out: Folder to write into; made when missing.
        opset: Version of the ONNX operators.
        language: That is spoken, of a model of several: graphs are for one.

    Raises:
        ConfigError: no language of the model is given, the extra ``onnx`` is not installed, the model
            writes no texts, or the folder cannot be written to.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"export: {error.name} is not installed; expected the extra onnx. "
            "Install it with pip install 'speechmm[onnx]'."
        ) from error
    if not isinstance(bundle.model.encoder, ConvTransformerEncoder):
        raise ConfigError(
            f"{bundle.path}: it stands on a pretrained encoder ({type(bundle.model.encoder).__name__}); "
            "expected one of the toolkit, which alone can be exported. Use the bundle itself."
        )
    if not bundle.heads & {"ctc", "decoder"}:
        raise ConfigError(
            f"{bundle.path}: it was trained to align only; expected CTC or a decoder, which the "
            "graphs are of. Train the task asr, too."
        )
    tag = _tag(bundle, language)
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    model = bundle.model.eval()
    with ExitStack() as stack:  # graphs belong together: both are made before either is replaced
        _export_encoder(model, stack.enter_context(write_aside(out / ENCODER, ours=True)), opset)
        if "decoder" in model.heads:
            step = stack.enter_context(write_aside(out / DECODER_STEP, ours=True))
            _export_step(model, step, opset, tag)
    bundle.tokenizer.save(out / TOKENIZER_FILE)
    write_text(out / CONFIG, json.dumps(_description(bundle, opset), indent=2) + "\n", ours=True)


def _check_folder(out: Path) -> None:
    """Refuses a folder whose files are of something else, such as another bundle."""
    there = [out / name for name in (CONFIG, TOKENIZER_FILE) if (out / name).exists()]
    if not there:
        return
    try:
        format = read_settings(out).get("format")
    except CheckpointError:
        format = None
    if format != FORMAT:
        raise ConfigError(
            f"{there[0]}: is there and of no earlier export; expected a folder for the graphs alone. Name "
            "another."
        )


def _tag(bundle: Bundle, language: str | None) -> str:
    """What the exported decoder is asked for: to write what is said, in one language."""
    names = bundle.model.decoder.names if "decoder" in bundle.heads else ("asr",)
    known = languages_of("asr", names)
    if language is None and len(known) > 1:
        raise ConfigError(
            f"--language: none is given; expected one of {', '.join(known)}, as a graph is for one "
            "language. Choose one of these."
        )
    code = known[0] if len(known) == 1 else ""
    if language is not None:
        code = known_language(
            language, known, asked_by="--language", learned="which the model can recognise"
        )
    if tag_of("asr", code) not in names:
        raise ConfigError(
            f"{bundle.path}: its decoder was trained on {', '.join(names)}; expected asr, which the graphs "
            "are of. Train the task asr with its decoder, too."
        )
    return tag_of("asr", code)


class GraphNames(TypedDict):
    """Names of a graph's inputs and outputs, in their order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class GraphsDescription(TypedDict):
    """What ``config.json`` beside the graphs holds."""

    format: str
    opset: int
    features: dict[str, Any]
    """Of `LogMelConfig`."""
    subsampling: int
    vocab_size: int
    decoder_layers: int
    heads: int
    """Of the decoder's attention."""
    d_head: int
    tag: int
    trained: list[str]
    """The heads that were trained."""
    encoder: GraphNames
    decoder_step: GraphNames | None
    weights_sha256: str


def _description(bundle: Bundle, opset: int) -> GraphsDescription:
    config = bundle.model.config
    return {
        "format": FORMAT,
        "opset": opset,
        "features": dataclasses.asdict(bundle.features),
        "subsampling": config.subsampling,
        "vocab_size": bundle.model.vocab_size,
        "decoder_layers": config.decoder_layers,
        "heads": config.heads,
        "d_head": config.d_model // config.heads,
        "tag": TAG,
        "trained": sorted(bundle.heads),
        "encoder": {"inputs": ENCODER_INPUTS, "outputs": encoder_outputs(bundle.model)},
        "decoder_step": {"inputs": STEP_INPUTS, "outputs": STEP_OUTPUTS}
        if "decoder" in bundle.heads
        else None,
        "weights_sha256": bundle.sha256,
    }


def _export_encoder(model: SpeechTextModel, path: Path, opset: int) -> None:
    batch, frames = torch.export.Dim("batch"), torch.export.Dim("frames", min=2)
    example = (torch.randn(2, 61, model.n_mels), torch.tensor([61, 45]))
    shapes = ({0: batch, 1: frames}, {0: batch})
    _export(
        EncoderGraph(model), example, shapes, path, ENCODER_INPUTS, encoder_outputs(model), opset
    )


def _export_step(model: SpeechTextModel, path: Path, opset: int, tag: str) -> None:
    config = model.config
    layers, heads, width = config.decoder_layers, config.heads, config.d_model // config.heads
    cross, past = (layers, 2, heads, 16, width), (layers, 6, heads, 5, width)
    example = (
        torch.tensor([TAG, 5, 6, 7, 5, 6]),
        torch.tensor(5),
        torch.ones(2, 16, dtype=torch.bool),
        torch.randn(cross),
        torch.randn(cross),
        torch.randn(past),
        torch.randn(past),
    )
    rows, batch = torch.export.Dim.AUTO, torch.export.Dim.AUTO
    frames, length = torch.export.Dim.AUTO, torch.export.Dim.AUTO
    memory = {1: batch, 3: frames}
    own = {1: rows, 3: length}
    shapes: tuple[dict[int, Any], ...] = (
        {0: rows},
        {},
        {0: batch, 1: frames},
        memory,
        memory,
        own,
        own,
    )
    _export(DecoderStepGraph(model, tag), example, shapes, path, STEP_INPUTS, STEP_OUTPUTS, opset)


def _export(  # noqa: PLR0917
    graph: nn.Module,
    example: tuple[Tensor, ...],
    shapes: tuple[dict[int, Any], ...],
    path: Path,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    opset: int,
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            example,
            str(path),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            external_data=False,
            verbose=False,
        )

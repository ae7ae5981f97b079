"""Reads an encoder from a folder in Hugging Face's layout: ``config.json`` and ``model.safetensors``.

Nothing is downloaded and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from speechmm.errors import CheckpointError
from speechmm.files.checksum import file_sha256
from speechmm.files.json_text import read_json
from speechmm.models.encoder import Encoder
from speechmm.models.meta import without_values
from speechmm.models.pretrained.configs import Wav2Vec2Config, WhisperConfig
from speechmm.models.pretrained.description import EncoderInfo, build

Config = TypeVar("Config", WhisperConfig, Wav2Vec2Config)
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

WAVEFORM_KINDS = ("wav2vec2", "hubert", "wavlm")
KINDS = ("whisper", *WAVEFORM_KINDS)
"""Values of ``model_type`` that are known."""

PREFIXES = (
    "model.encoder.",
    "encoder.",
    *(f"{kind}." for kind in WAVEFORM_KINDS),
    "",
)
"""Before an encoder's weights, according to the model that it was saved as a part of."""


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder, and what was found in its folder."""

    encoder: Encoder
    kind: str
    """Its ``model_type``."""
    config: WhisperConfig | Wav2Vec2Config
    unused: tuple[str, ...]
    """Weights of the folder that are no part of the encoder: decoders, heads, quantisers."""

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return sum(weight.numel() for weight in cast(nn.Module, self.encoder).parameters())

    @property
    def reads_waveforms(self) -> bool:
        """Whether its input is the waveform and not log-mel features."""
        return self.kind in WAVEFORM_KINDS


def read_pretrained(folder: Path) -> PretrainedEncoder:
    """The encoder of a folder.

    Raises:
        CheckpointError: The folder holds no encoder that is known, or weights and config do not fit.
    """
    kind, info = read_description(folder)
    with without_values():  # random weights of a large model would take longer than reading it
        encoder: Any = build(info)
    weights, unused = _weights(folder, set(encoder.state_dict()))
    check_shapes(folder, encoder.state_dict(), weights, what="encoder")
    encoder.load_state_dict(weights, assign=True)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name != "embed_positions.weight")
    return PretrainedEncoder(encoder, kind, info.config, unused)


def read_description(folder: Path) -> tuple[str, EncoderInfo]:
    """The ``model_type`` of a folder and the description of its encoder; no weights are read.

    Raises:
        CheckpointError: The folder holds no encoder that is known.
    """
    settings = read_settings(folder / CONFIG)
    kind = settings.get("model_type")
    if kind not in KINDS:
        raise CheckpointError(
            f"{folder / CONFIG}: model_type is {kind!r}; expected one of {', '.join(KINDS)}. "
            "Give a folder of such a model."
        )
    family = "whisper" if kind == "whisper" else "wav2vec2"
    return str(kind), EncoderInfo(kind=family, config=_config(folder, str(kind), settings))


def weights_digest(folder: Path) -> str:
    """A checksum over the config and the weights of a folder, hex."""
    digest = hashlib.sha256()
    for path in (folder / CONFIG, *weight_files(folder)):
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file of such a folder.

    Raises:
        CheckpointError: It is missing, or no JSON object.
    """
    return read_json(
        path,
        expected="a JSON object",
        advice=f"Give a folder with {CONFIG} and {WEIGHTS}.",
        error=CheckpointError,
    )


def _config(folder: Path, kind: str, settings: Mapping[str, Any]) -> WhisperConfig | Wav2Vec2Config:
    """The typed config; what is not known of it has no effect on the encoder."""
    values = dict(settings)
    if kind == "whisper":
        return _fitted(WhisperConfig, values, folder)
    values["relative_positions"] = kind == "wavlm"
    values["do_normalize"] = _normalizes(folder)
    return _fitted(Wav2Vec2Config, values, folder)


def _normalizes(folder: Path) -> bool:
    """Whether waveforms are scaled to unit variance; so they are where nothing is said."""
    path = folder / PREPROCESSOR
    return bool(read_settings(path).get("do_normalize", True)) if path.is_file() else True


def _fitted(kind: type[Config], values: Mapping[str, Any], folder: Path) -> Config:
    known = {field.name for field in fields(kind)}
    try:
        config = kind(**{name: value for name, value in values.items() if name in known})
        config.check()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: {error}; expected the config of a known encoder. Get the file again."
        ) from error
    return config


def _weights(folder: Path, wanted: set[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The encoder's weights in float32 by its own names, and the names of all others."""
    paths = weight_files(folder)
    try:
        names = weight_names(paths)
        prefix = _prefix(names, wanted)
        read = weights_below(names, prefix)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the weights cannot be read ({error}); expected safetensors. Get them again."
        ) from error
    folded = fold_weight_norm(read)
    own = {name: value for name, value in folded.items() if name in wanted}
    taken = {prefix + name for name in read if name in wanted or ".conv.weight_" in name}
    taken |= {prefix + name for name in read if ".conv.parametrizations." in name}
    return own, tuple(sorted(set(names) - taken))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights.

    Raises:
        CheckpointError: There is none in safetensors.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        shards = read_settings(folder / INDEX).get("weight_map")
        found = set(shards.values()) if isinstance(shards, dict) else set()
        if found and all(isinstance(name, str) and Path(name).name == name for name in found):
            return [folder / name for name in sorted(found)]
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    also = f"; {pickled[0]} is a pickle, which could run code" if pickled else ""
    raise CheckpointError(
        f"{folder}: there is no {WEIGHTS}{also}; expected one. Save the model with safetensors."
    )


def weight_names(paths: Sequence[Path]) -> dict[str, Path]:
    """The names of all weights of some files, and where each is.

    Raises:
        SafetensorError: One is no safetensors file.
    """
    names: dict[str, Path] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            names |= dict.fromkeys(file.keys(), path)
    return names


def weights_below(names: Mapping[str, Path], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin so, in float32, by the rest of their names.

    Args:
        names: Of :func:`weight_names`.
        prefix: Of a part of the model.

    Raises:
        SafetensorError: One cannot be read.
    """
    found: dict[str, Tensor] = {}
    for path in sorted(set(names.values())):
        with safe_open(path, framework="pt") as file:
            for name, where in names.items():
                if where == path and name.startswith(prefix):
                    found[name[len(prefix) :]] = file.get_tensor(name).float()
    return found


def read_tensors(paths: Sequence[Path]) -> dict[str, Tensor]:
    """All weights of some files, in float32.

    Raises:
        CheckpointError: One is missing or no safetensors file.
    """
    found: dict[str, Tensor] = {}
    for path in paths:
        try:
            read = load_file(path)  # maps the file, which may be replaced while a model is in use
            found |= {name: value.to(torch.float32, copy=True) for name, value in read.items()}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error}); expected safetensors. Get the file again."
            ) from error
    return found


def _prefix(names: Mapping[str, Path], wanted: set[str]) -> str:
    """The prefix under which most of the wanted weights are found."""
    return max(PREFIXES, key=lambda prefix: sum(prefix + name in names for name in wanted))


def fold_weight_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Plain weights in place of direction and length (Salimans and Kingma 2016, equation 2).

    The length has a value along each axis but those of size 1.
    """
    out = dict(weights)
    for length, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        for name in [name for name in weights if name.endswith(f".{length}")]:
            base = name[: -len(length)]
            g, v = weights[name], weights.get(base + direction)
            if v is None or g.ndim != v.ndim:
                continue
            if all(size in (1, most) for size, most in zip(g.shape, v.shape, strict=True)):
                del out[name], out[base + direction]
                axes = [axis for axis, size in enumerate(g.shape) if size == 1]
                out[base + "weight"] = g * v / torch.linalg.vector_norm(v, dim=axes, keepdim=True)
    return out


def check_shapes(
    path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], *, what: str
) -> None:
    """Refuses weights that are not those of a model.

    Args:
        path: Where they were found.
        expected: The model's.
        found: Those of these names.
        what: The model is.

    Raises:
        CheckpointError: One is missing, or has another shape.
    """
    missing = sorted(set(expected) - set(found))
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} weights of the {what} are missing, {missing[0]} among them; "
            f"expected those that {CONFIG} describes. Get both files again."
        )
    for name, value in found.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has the shape {tuple(value.shape)}; expected "
                f"{tuple(expected[name].shape)} by {CONFIG}. Get both files again."
            )

"""Runs a vocoder that is an ONNX graph, by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechmm.errors import CheckpointError, ConfigError
from speechmm.models.pretrained.folder import CONFIG, read_settings
from speechmm.models.vocoder_mel import VocoderMel, read_description

BANDS_FIRST, FRAMES_FIRST = "bands first", "frames first"
LAYOUTS = (BANDS_FIRST, FRAMES_FIRST)


def load_graph(path: Path) -> tuple[Callable[[Tensor], Tensor], VocoderMel]:
    """The generator of a graph, and the log-mel its description names.

    The graph has one input, float32 log-mel, with an axis for the batch or without one, and its first
    output is the samples. Its ``layout`` is "bands first" or "frames first", which the description
    says where the graph itself does not.

    Raises:
        CheckpointError: The graph or its description is missing or damaged.
        ConfigError: The extra onnx is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"--vocoder {path}: {error.name} is not installed; expected the extra onnx. "
            "Install it with pip install 'speechmm[onnx]'."
        ) from error
    beside = path.with_suffix(".json")
    beside = beside if beside.is_file() else path.parent / CONFIG
    values = read_settings(beside)
    mel = read_description(beside, values, ("log", "magnitude"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is told in one line
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has a class a cause
        raise _broken(path, error) from error
    shape = _input_shape(path, session)
    bands_first = _layout(path, shape, values.get("layout"), mel.bands.n_mels) == BANDS_FIRST

    def generate(log_mel: Tensor) -> Tensor:
        given = (log_mel.T if bands_first else log_mel).contiguous().numpy()
        given = given[None] if len(shape) == 3 else given
        try:
            found = session.run(None, {session.get_inputs()[0].name: given})[0]
        except Exception as error:
            raise _broken(path, error) from error
        return torch.from_numpy(np.asarray(found, dtype=np.float32).reshape(-1))

    return generate, mel


def _broken(path: Path, error: Exception) -> CheckpointError:
    said = " ".join(str(error).split())[:300]
    return CheckpointError(
        f"{path}: onnxruntime cannot run it ({said}); expected a vocoder's graph. Export it again."
    )


def _input_shape(path: Path, session: Any) -> list[Any]:
    """The axes of the graph's only input: numbers, or names where any number will do."""
    inputs = session.get_inputs()
    kinds = [(one.type, len(one.shape)) for one in inputs]
    if len(inputs) != 1 or kinds[0][0] != "tensor(float)" or kinds[0][1] not in (2, 3):
        raise CheckpointError(
            f"{path}: its inputs are {kinds}; expected one of float32 with 2 or 3 axes, log-mel. "
            "Export the vocoder alone."
        )
    return list(inputs[0].shape)


def _layout(path: Path, shape: list[Any], named: object, n_mels: int) -> str:
    """Which axis comes first."""
    if named is not None and named not in LAYOUTS:
        raise CheckpointError(
            f"{path}: its description's layout is {named!r}; expected one of {', '.join(LAYOUTS)}. "
            "Correct it."
        )
    sizes = shape[-2:]
    if sizes[0] == n_mels and sizes[1] != n_mels:
        found = BANDS_FIRST
    elif sizes[1] == n_mels and sizes[0] != n_mels:
        found = FRAMES_FIRST
    else:
        found = str(named or BANDS_FIRST)
    bands = sizes[0] if found == BANDS_FIRST else sizes[1]
    if named not in (None, found) or (isinstance(bands, int) and bands != n_mels):
        raise CheckpointError(
            f"{path}: its input has the axes {shape}; expected {n_mels} mel bands, {named or found}. "
            "Correct the description, or export it again."
        )
    return found

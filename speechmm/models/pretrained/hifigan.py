"""HiFi-GAN's generator: log-mel to a waveform, with weights that others have trained.

Source: Kong et al. 2020, "HiFi-GAN" (2010.05646), section 2.2 and appendix A; equal to the generator of
its authors and to transformers' SpeechT5HifiGan.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from speechmm.errors import CheckpointError
from speechmm.files.json_text import fits
from speechmm.models.bundle_config import typed
from speechmm.models.meta import without_values
from speechmm.models.pretrained.folder import (
    CONFIG,
    check_shapes,
    fold_weight_norm,
    read_settings,
    read_tensors,
    weight_files,
)
from speechmm.models.vocoder_mel import VocoderMel, read_description

END_KERNEL = 7
LISTS: dict[str, Any] = {
    "upsample_rates": [int],
    "upsample_kernel_sizes": [int],
    "resblock_kernel_sizes": [int],
    "resblock_dilation_sizes": [[int]],
}
"""Settings that are lists, and what is in them."""
MOST = {"stages": 8, "kernel": 128, "dilation": 64, "channels": 8192}
"""Beyond these a config is damaged, not large."""
HUGGING_FACE = {
    "f_min": 80.0,
    "f_max": 7600.0,
    "n_fft": 1024,
    "win_length": 1024,
    "log": "10",
    "floor": 1e-10,
    "center": True,
    "normalize_before": True,
}
"""Where a config in Hugging Face's form says nothing: SpeechT5's features, which are ESPnet's."""
PREFIXES = ("generator.", "vocoder.", "model.", "module.")


@dataclass(frozen=True, kw_only=True)
class HifiGanConfig:
    """Dimensions, as ``config.json`` names them."""

    model_in_dim: int
    """Mel bands."""
    upsample_rates: Sequence[int]
    upsample_kernel_sizes: Sequence[int]
    resblock_kernel_sizes: Sequence[int]
    resblock_dilation_sizes: Sequence[Sequence[int]]
    upsample_initial_channel: int = 512
    resblock: str = "1"
    """"1" for pairs of convolutions, "2" for single ones."""
    leaky_relu_slope: float = 0.1
    normalize_before: bool = False
    """Whether log-mel is normalised by a mean and a scale that are among the weights."""

    def check(self) -> None:
        """Refuses what would be built wrongly.

        Raises:
            ValueError: A size is none, out of bounds, or does not fit another.
        """
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        sizes, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        counts = (len(rates), len(sizes), *map(len, dilations))
        if not 0 < min(counts) <= max(counts) <= MOST["stages"]:
            raise ValueError(f"its lists have {counts} items")
        if len(rates) != len(kernels) or len(sizes) != len(dilations):
            raise ValueError("its lists of rates, kernels and dilations have different lengths")
        for rate, kernel in zip(rates, kernels, strict=True):
            if not 1 <= rate <= kernel <= MOST["kernel"] or (kernel - rate) % 2:
                raise ValueError(f"upsample rate {rate} with kernel {kernel}")
        if any(not 1 <= size <= MOST["kernel"] or size % 2 == 0 for size in sizes):
            raise ValueError(f"resblock_kernel_sizes are {list(sizes)}")
        if any(not 1 <= one <= MOST["dilation"] for each in dilations for one in each):
            raise ValueError(f"resblock_dilation_sizes are {list(dilations)}")
        least = 2 ** len(rates)
        if not least <= self.upsample_initial_channel <= MOST["channels"]:
            raise ValueError(f"upsample_initial_channel is {self.upsample_initial_channel}")
        if not 1 <= self.model_in_dim <= 1024 or self.resblock not in ("1", "2"):
            raise ValueError(f"{self.model_in_dim} mel bands, resblock {self.resblock!r}")

    @property
    def hop_length(self) -> int:
        """Samples of a frame."""
        return math.prod(self.upsample_rates)

    @property
    def reach(self) -> int:
        """Frames before and after its own that a sample depends on."""
        frames, rate = END_KERNEL // 2 + 1.0, 1
        for factor, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True):
            frames += math.ceil(kernel / factor) / rate
            rate *= factor
            samples = max(
                sum(size // 2 * (one + (self.resblock == "1")) for one in each)
                for size, each in zip(
                    self.resblock_kernel_sizes, self.resblock_dilation_sizes, strict=True
                )
            )
            frames += samples / rate
        return math.ceil(frames + (END_KERNEL // 2) / rate)


class ResidualBlock(nn.Module):
    """Dilated convolutions with residuals: pairs, or single ones (``convs2`` is empty then)."""

    def __init__(self, width: int, kernel: int, dilations: Sequence[int], config: HifiGanConfig):
        super().__init__()
        self.slope = config.leaky_relu_slope

        def convs(spread: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv1d(width, width, kernel, dilation=one, padding=kernel // 2 * one)
                for one in spread
            )

        if config.resblock == "1":
            self.convs1, self.convs2 = convs(dilations), convs([1] * len(dilations))
        else:
            self.convs = convs(dilations)

    def forward(
        self, x: Float[Tensor, "batch width samples"]
    ) -> Float[Tensor, "batch width samples"]:
        """As many samples."""
        if hasattr(self, "convs"):
            for conv in self.convs:
                x = x + conv(F.leaky_relu(x, self.slope))
            return x
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, self.slope)), self.slope))
        return x


class HifiGan(nn.Module):
    """The generator; its weights have the names that its authors gave them."""

    def __init__(self, config: HifiGanConfig):
        """Random weights."""
        super().__init__()
        self.config = config
        width = config.upsample_initial_channel
        margin = END_KERNEL // 2
        self.conv_pre = nn.Conv1d(config.model_in_dim, width, END_KERNEL, padding=margin)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(
                nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2)
            )
            width //= 2
            for size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(ResidualBlock(width, size, dilations, config))
        self.conv_post = nn.Conv1d(width, 1, END_KERNEL, padding=margin)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(config.model_in_dim))
        self.register_buffer("scale", torch.ones(config.model_in_dim))

    def forward(
        self, log_mel: Float[Tensor, "batch frames n_mels"]
    ) -> Float[Tensor, "batch samples"]:
        """``frames * hop_length`` samples in (-1, 1); log-mel as the vocoder's description says."""
        if self.config.normalize_before:
            log_mel = (log_mel - self.mean) / self.scale
        x = self.conv_pre(log_mel.transpose(1, 2))
        blocks = len(self.resblocks) // len(self.ups)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, self.config.leaky_relu_slope))
            mixed = self.resblocks[stage * blocks](x)
            for block in self.resblocks[stage * blocks + 1 : (stage + 1) * blocks]:
                mixed = mixed + block(x)
            x = mixed / blocks
        x = self.conv_post(F.leaky_relu(x))  # 0.01 here, as its authors have it
        return torch.tanh(x)[:, 0]


def read_hifigan(folder: Path, weights: Path | None = None) -> tuple[HifiGan, VocoderMel]:
    """The generator of a folder, and the log-mel it takes.

    Args:
        folder: With ``config.json``, of Hugging Face's form or of the authors', and
            ``model.safetensors``, whose weights may be folded (Salimans and Kingma 2016) or not.
        weights: Another file in place of ``model.safetensors``.

    Raises:
        CheckpointError: A file is missing, damaged or does not fit the other.
    """
    path = folder / CONFIG
    values = read_settings(path)
    if "model_in_dim" in values or "hifigan" in str(values.get("model_type")):
        values = HUGGING_FACE | values
    config = _config(path, values)
    mel = read_description(path, {"hop_length": config.hop_length} | values)
    if mel.bands.hop_length != config.hop_length:
        raise CheckpointError(
            f"{path}: hop_length is {mel.bands.hop_length}, and its upsample_rates make "
            f"{config.hop_length} samples of a frame; expected the same. Correct it."
        )
    with without_values():
        model = HifiGan(config)
    found = fold_weight_norm(
        _own_names(read_tensors([weights] if weights else weight_files(folder)))
    )
    if not config.normalize_before:
        found |= {
            "mean": torch.zeros(config.model_in_dim),
            "scale": torch.ones(config.model_in_dim),
        }
    expected = model.state_dict()
    found = {name: value for name, value in found.items() if name in expected}
    check_shapes(weights or folder, expected, found, what="vocoder")
    model.load_state_dict(found, assign=True)
    return model.eval().requires_grad_(requires_grad=False), mel


def _config(path: Path, values: Mapping[str, Any]) -> HifiGanConfig:
    bands = next(
        (values[one] for one in ("model_in_dim", "num_mels", "n_mels") if one in values), None
    )
    known = {
        name: values[name] for name in HifiGanConfig.__dataclass_fields__ if name in values
    } | {"model_in_dim": bands, "resblock": str(values.get("resblock", "1"))}
    try:
        for name, shape in LISTS.items():
            if not fits(values.get(name), shape):
                raise ValueError(
                    f"{name}: found {str(values.get(name))[:40]}; expected whole numbers"
                )
        config = typed(HifiGanConfig, known)
        config.check()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: {error}; expected the config of a HiFi-GAN generator. Get the file again."
        ) from error
    return config


def _own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the authors' names, whatever model they were saved as a part of."""
    prefix = next((one for one in PREFIXES if f"{one}conv_pre.bias" in weights), "")
    return {
        re.sub(r"^upsampler\.", "ups.", name.removeprefix(prefix)): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }

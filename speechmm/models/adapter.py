"""Saves what a training with LoRA changed as a folder of a few megabytes, and loads it on its base.

An adapter holds config.json and tokenizer.json as a bundle does. Its weights are low-rank updates by the
names of what they update, and whole weights that the base does not have, or has with other values.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from speechmm.errors import CheckpointError
from speechmm.files.atomic import write_folder_aside
from speechmm.files.checksum import file_sha256
from speechmm.models import bundle as bundles
from speechmm.models.bundle import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    Bundle,
    build_model,
    bundle_config,
    check_sha256,
    fitting,
    is_auxiliary,
    read_settings,
)
from speechmm.models.bundle_config import BundleConfig
from speechmm.models.lora import merged, updates
from speechmm.models.quantize import quantize as quantized
from speechmm.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from speechmm.audio.log_mel import LogMelConfig
    from speechmm.models.bundle_config import TrainingInfo
    from speechmm.models.speech_text import SpeechTextModel

FORMAT = "speechmm-adapter-1"
ADAPTER_FILE = "adapter.safetensors"
_DOWN, _UP, _SCALE = ".lora_down", ".lora_up", ".lora_scale"


def save_adapter(
    path: Path,
    base: Path,
    model: SpeechTextModel,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    *,
    training: TrainingInfo,
) -> None:
    """Writes the folder aside and renames it into place, replacing an older adapter.

    Args:
        path: Folder to create.
        base: The bundle that the training started from.
        model: With its updates, not merged.
        tokenizer: Of the model.
        features: Of the model.
        training: What to remember of the training.

    Raises:
        CheckpointError: The base is damaged, or gone.
    """
    from safetensors.torch import save_file

    old = bundles.load_bundle(base)
    theirs = old.model.state_dict()
    weights: dict[str, Tensor] = {}
    for name, update in updates(model):
        weights[name + _DOWN] = update.down
        weights[name + _UP] = update.up
        weights[name + _SCALE] = torch.tensor(update.scale)
    changed = {name for name, _ in updates(model)}
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    for name, value in merged(model).state_dict().items():
        if name in changed or is_auxiliary(name):
            continue
        known = theirs.get(name)
        if known is None or not _is_same(known, value.cpu(), frozen=name in frozen):
            weights[name] = value
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with write_folder_aside(path, mark=CONFIG_FILE) as aside:
        save_file(plain, aside / ADAPTER_FILE)
        config = bundle_config(
            model, features, sha256=file_sha256(aside / ADAPTER_FILE), training=training
        )
        values = config.to_json() | {"format": FORMAT, "base_sha256": old.sha256}
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (aside / CONFIG_FILE).write_text(text, encoding="utf-8", errors="backslashreplace")
        tokenizer.save(aside / TOKENIZER_FILE)


def load_adapted(
    base: Path | str,
    adapter: Path | str,
    *,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
) -> Bundle:
    """Reads a bundle with an adapter: the model that the training with LoRA ended with.

    Args:
        base: The bundle that the training started from.
        adapter: The folder that it wrote.
        device: Where the model is to run.
        quantize: "int8" for 8-bit weights on a CPU.

    Raises:
        CheckpointError: A file is missing or damaged, or the adapter belongs to another bundle.
        ConfigError: The model cannot be quantized like that.
    """
    base, adapter = Path(base), Path(adapter)
    plain = _read_config(adapter)
    old = bundles.load_bundle(base)
    if plain.get("base_sha256") != old.sha256:
        raise CheckpointError(
            f"{adapter}: it belongs to a bundle with the checksum {str(plain.get('base_sha256'))[:12]}..., "
            f"but {base} has {old.sha256[:12]}...; expected the bundle that its training started from. "
            "Give that one."
        )
    tokenizer = Tokenizer.load(adapter / TOKENIZER_FILE)
    with fitting(adapter):
        config = BundleConfig.from_json(plain)
        model = build_model(config)
        theirs = old.model.state_dict()
        known = {
            name: theirs[name]
            for name, value in model.state_dict().items()
            if name in theirs and theirs[name].shape == value.shape
        }
        model.load_state_dict(_with_changes(known, adapter / ADAPTER_FILE))
    model = model.eval().to(device)
    return dataclasses.replace(
        old,
        model=model if quantize is None else quantized(model, quantize),
        tokenizer=tokenizer,
        features=config.features,
        path=adapter,
        sha256=config.weights_sha256,
        training=config.training,
        confidence=config.confidence,
    )


def load_any(
    path: Path | str,
    adapter: Path | str | None,
    *,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
) -> Bundle:
    """A bundle, with an adapter where one is given."""
    if adapter is None:
        return bundles.load_bundle(path, device=device, quantize=quantize)
    return load_adapted(path, adapter, device=device, quantize=quantize)


def _is_same(known: Tensor, value: Tensor, *, frozen: bool) -> bool:
    """Whether a weight is the base's; training in 16 bits rounds frozen ones, too."""
    if known.shape != value.shape:
        return False
    rounded = (torch.bfloat16, torch.float16) if frozen else ()
    roundings = (known, *(known.to(kind).to(known.dtype) for kind in rounded))
    return any(torch.equal(one, value) for one in roundings)


def _read_config(adapter: Path) -> dict[str, Any]:
    """The plain values of an adapter's config.json, its weights compared with their checksum."""
    for name in (CONFIG_FILE, ADAPTER_FILE, TOKENIZER_FILE):
        if not (adapter / name).is_file():
            raise CheckpointError(
                f"{adapter}: {name} is missing; expected the folder of an adapter. Give the "
                '"adapter" folder that "speechmm fit" wrote with model.lora.'
            )
    plain = read_settings(adapter)
    if plain.get("format") != FORMAT:
        raise CheckpointError(
            f"{adapter / CONFIG_FILE}: format is {plain.get('format')!r}; expected {FORMAT!r}. "
            "Give an adapter, or leave it out."
        )
    check_sha256(adapter / ADAPTER_FILE, plain, "adapter")
    return plain


def _with_changes(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of the base with what an adapter changes."""
    from safetensors.torch import load_file

    changes: dict[str, Tensor] = load_file(path)
    for name in [name.removesuffix(_UP) for name in changes if name.endswith(_UP)]:
        up, down = changes.pop(name + _UP), changes.pop(name + _DOWN)
        scale = float(changes.pop(name + _SCALE))
        weights[name] = torch.addmm(weights[name], up, down, alpha=scale)
    return weights | changes

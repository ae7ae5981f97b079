"""A trained model as a folder anyone can use: config.json, model.safetensors, tokenizer, card.

Nothing in a bundle is pickled; loading one executes no code from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import CheckpointError, ConfigError, SpeechmmError
from speechmm.files.atomic import write_text
from speechmm.models.bundle_upgrade import OLD_FORMAT, upgrade_config, upgrade_weights
from speechmm.models.language_model import LanguageModel, LanguageModelConfig
from speechmm.models.quantize import quantize as quantized
from speechmm.models.speech_text import HEADS, SpeechTextConfig, SpeechTextModel
from speechmm.models.weight_layout import lay_columns
from speechmm.text.tokenizer import Tokenizer

FORMAT = "speechmm-bundle/2"
LANGUAGE_FORMAT = "speechmm-lm/1"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "README.md"
FILES = (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE)


@dataclass
class Bundle:
    """A model ready to use, with everything that belongs to it."""

    model: SpeechTextModel
    tokenizer: Tokenizer
    features: LogMelConfig
    config: dict[str, Any]
    """The whole config.json, with how the model was trained under ``training``."""
    path: Path
    sha256: str
    """Of model.safetensors."""

    @property
    def heads(self) -> frozenset[str]:
        """The heads that its training taught, of ``HEADS``."""
        return frozenset(head for head in HEADS if head in self.model.heads)

    def require_heads(self, heads: Collection[str], flag: str) -> None:
        """Refuses to read what was never trained.

        Args:
            heads: What is to be read, of ``HEADS``.
            flag: What asks for it, for the message.

        Raises:
            ConfigError: Some of them are not there.
        """
        missing = [head for head in HEADS if head in heads and head not in self.heads]
        if missing:
            trained = ", ".join(head for head in HEADS if head in self.heads)
            raise ConfigError(
                f"{self.path}: it was trained with heads {trained}; expected "
                f"{' and '.join(missing)} too, which {flag} reads. Choose another way to read it, "
                "or train that too (model.tasks)."
            )

    outputs = heads
    expect = require_heads


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_bundle(
    path: Path,
    model: SpeechTextModel,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    *,
    training: dict[str, Any],
) -> None:
    """Writes the folder aside and renames it into place, replacing an older bundle.

    Args:
        path: Folder to create.
        model: Weights and dimensions; the feature statistics are among the weights.
        tokenizer: Its text side.
        features: Its audio side.
        training: What to remember of the training (seed, command, steps, scores): JSON values.
    """
    config = {
        "format": FORMAT,
        "model": dataclasses.asdict(model.config),
        "vocab_size": model.vocab_size,
        "align_vocab_size": model.align_vocab_size,
        "heads": [head for head in HEADS if head in model.heads],
        "tags": list(model.decoder.names) if "decoder" in model.heads else [],
        "features": dataclasses.asdict(features),
    }
    _write_folder(path, model, tokenizer, config, training)


def save_language_model(
    path: Path, model: LanguageModel, tokenizer: Tokenizer, *, training: dict[str, Any]
) -> None:
    """The same for a language model."""
    config = {
        "format": LANGUAGE_FORMAT,
        "model": dataclasses.asdict(model.config),
        "vocab_size": model.vocab_size,
    }
    _write_folder(path, model, tokenizer, config, training)


def _write_folder(
    path: Path,
    model: SpeechTextModel | LanguageModel,
    tokenizer: Tokenizer,
    config: dict[str, Any],
    training: dict[str, Any],
) -> None:
    from safetensors.torch import save_file

    aside = path.parent / f".tmp-{path.name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if not _is_auxiliary(name)
    }
    save_file(weights, aside / WEIGHTS_FILE)
    tokenizer.save(aside / TOKENIZER_FILE)
    config |= {"weights_sha256": file_sha256(aside / WEIGHTS_FILE), "training": training}
    (aside / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    (aside / CARD_FILE).write_text(model_card(config, tokenizer, model.num_parameters()))
    old = path.parent / f".old-{path.name}-{os.getpid()}"
    if path.exists():
        path.rename(old)
    aside.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _is_auxiliary(weight: str) -> bool:
    """Whether a weight belongs to a head that only training needs."""
    room, _, rest = weight.partition(".")
    return room == "heads" and rest.partition(".")[0] not in HEADS


def model_card(config: dict[str, Any], tokenizer: Tokenizer, parameters: int) -> str:
    """A short README for the bundle."""
    training = "\n".join(f"| {key} | {value} |" for key, value in config["training"].items())
    size = (
        f"{parameters:,} parameters, {tokenizer.kind} tokenizer with {tokenizer.vocab_size} "
        f"entries, text normalizer `{tokenizer.normalizer}`"
    )
    if config["format"] == LANGUAGE_FORMAT:
        about = f"A language model that recognition can listen to.\n\n{size}.\n\n"
        use = "speechmm transcribe AUDIO --model BUNDLE --beam 10 --lm .\n"
    else:
        rate = config["features"]["sample_rate"]
        about = (
            "One network that transcribes speech and aligns text to it.\n\n"
            f"{size}, audio at {rate} Hz.\n\n"
        )
        use = (
            "speechmm transcribe AUDIO --model .\n"
            "speechmm align AUDIO --text TEXT --model . --out ALIGNED\n"
        )
    return (
        f"# speechmm model\n\n{about}```sh\n{use}```\n\n"
        f"## Training\n\n| what | value |\n|---|---|\n{training}\n"
    )


def read_config(path: Path, *, format: str = FORMAT) -> dict[str, Any]:
    """The bundle's config.json, without loading weights.

    Args:
        path: The folder.
        format: What kind of bundle it is to be.

    Raises:
        CheckpointError: the folder is no bundle, or a file of it is missing or broken.
    """
    for name in FILES:
        if not (path / name).is_file():
            raise CheckpointError(
                f"{path}: {name} is missing; expected a bundle folder with {', '.join(FILES)}. "
                'Give the "bundle" folder that "speechmm fit" wrote.'
            )
    try:
        config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: not readable as JSON ({error}); expected a bundle's "
            "settings. Copy the bundle again."
        ) from error
    accepted = (format, OLD_FORMAT) if format == FORMAT else (format,)
    if not isinstance(config, dict) or config.get("format") not in accepted:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(
            f"{path / CONFIG_FILE}: format is {found!r}; expected {format!r}. "
            "Give another bundle, or use the version of speechmm that wrote this one."
        )
    return config if format == LANGUAGE_FORMAT else upgrade_config(config)


def set_confidence(path: Path, decoder: str, found: dict[str, Any]) -> None:
    """Writes what calibration found for a decoder into a bundle's settings."""
    config = read_config(path)
    config.setdefault("confidence", {})[decoder] = found
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    write_text(path / CONFIG_FILE, text)


def load_bundle(
    path: Path | str, *, device: str | torch.device = "cpu", quantize: str | None = None
) -> Bundle:
    """Reads a bundle; the model comes back in evaluation mode.

    Args:
        path: The folder.
        device: Where the model is to run.
        quantize: "int8" for 8-bit weights on a CPU.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the others.
        ConfigError: the model cannot be quantized like that.
    """
    path = Path(path)
    config = read_config(path)
    sha256 = _checked_sha256(path, config)
    tokenizer = Tokenizer.load(path / TOKENIZER_FILE)
    with _fitting(path):
        features = LogMelConfig(**config["features"])
        model = SpeechTextModel(
            SpeechTextConfig(**config["model"]),
            vocab_size=config["vocab_size"],
            n_mels=features.n_mels,
            align_vocab_size=config.get("align_vocab_size"),
            heads=config["heads"],
            tags=config["tags"],
        )
        _load_weights(model, path, config)
    sizes = (tokenizer.vocab_size, tokenizer.align_vocab_size)
    if sizes != (model.vocab_size, model.align_vocab_size):
        raise CheckpointError(
            f"{path / TOKENIZER_FILE}: {sizes[0]} entries ({sizes[1]} to align), but the model has "
            f"{model.vocab_size} ({model.align_vocab_size}); expected the tokenizer of the same "
            "bundle. Copy the bundle again."
        )
    model = model.eval().to(device)
    if quantize is not None:
        model = quantized(model, quantize)
    return Bundle(model, tokenizer, features, config, path, sha256)


@dataclass
class LanguageBundle:
    """A language model ready to use."""

    model: LanguageModel
    tokenizer: Tokenizer


def load_language_model(path: Path | str) -> LanguageBundle:
    """Reads the bundle of a language model; it comes back in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the others.
    """
    path = Path(path)
    config = read_config(path, format=LANGUAGE_FORMAT)
    _checked_sha256(path, config)
    tokenizer = Tokenizer.load(path / TOKENIZER_FILE)
    with _fitting(path):
        model = LanguageModel(
            LanguageModelConfig(**config["model"]), vocab_size=config["vocab_size"]
        )
        _load_weights(model, path, config)
    if tokenizer.vocab_size != model.vocab_size:
        raise CheckpointError(
            f"{path / TOKENIZER_FILE}: {tokenizer.vocab_size} entries, but the model has "
            f"{model.vocab_size}; expected the tokenizer of the same bundle. Copy the bundle again."
        )
    return LanguageBundle(model.eval(), tokenizer)


def _checked_sha256(path: Path, config: dict[str, Any]) -> str:
    sha256 = file_sha256(path / WEIGHTS_FILE)
    if sha256 != config.get("weights_sha256"):
        raise CheckpointError(
            f"{path / WEIGHTS_FILE}: its checksum is {sha256[:12]}..., but config.json says "
            f"{str(config.get('weights_sha256'))[:12]}...: the file is damaged or from another "
            "model. Copy the bundle again."
        )
    return sha256


def _load_weights(model: torch.nn.Module, path: Path, config: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    model.load_state_dict(upgrade_weights(load_file(path / WEIGHTS_FILE), config))
    lay_columns(model)


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Turns what goes wrong between settings and weights into one line."""
    from safetensors import SafetensorError

    try:
        yield
    except SpeechmmError:
        raise
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: weights and settings do not fit ({first_line}); expected the files of one "
            "bundle. Copy the bundle again."
        ) from error

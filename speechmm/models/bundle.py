"""Saves and loads a trained model as a folder: config.json, model.safetensors, tokenizer, card.

Nothing in a bundle is pickled; loading one executes no code from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import CheckpointError, ConfigError, SpeechmmError
from speechmm.files.atomic import write_folder_aside, write_text
from speechmm.files.checksum import file_sha256
from speechmm.files.json_text import read_json
from speechmm.models.bundle_config import (
    FORMAT,
    LANGUAGE_FORMAT,
    BundleConfig,
    ConfidenceInfo,
    LanguageBundleConfig,
    TrainingInfo,
)
from speechmm.models.bundle_upgrade import OLD_FORMAT, upgrade_config, upgrade_weights
from speechmm.models.language_model import LanguageModel
from speechmm.models.meta import without_values
from speechmm.models.model_card import model_card
from speechmm.models.pretrained.description import build, describe
from speechmm.models.quantize import quantize as quantized
from speechmm.models.speech_text import ALL_HEADS, SpeechTextModel
from speechmm.models.weight_layout import to_column_major
from speechmm.text.tokenizer import Tokenizer

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
    path: Path
    sha256: str
    """Of model.safetensors."""
    training: TrainingInfo = field(default_factory=TrainingInfo)
    confidence: dict[str, ConfidenceInfo] = field(default_factory=dict)
    """Calibrations of word confidences, by decoder."""

    @property
    def heads(self) -> frozenset[str]:
        """The heads that were trained, of ``ALL_HEADS``."""
        return frozenset(head for head in ALL_HEADS if head in self.model.heads)

    def require_heads(self, heads: Collection[str], flag: str) -> None:
        """Refuses to read what was never trained.

        Args:
            heads: What is to be read, of ``ALL_HEADS``.
            flag: What asks for it, for the message.

        Raises:
            ConfigError: Some of them are not there.
        """
        missing = [head for head in ALL_HEADS if head in heads and head not in self.heads]
        if missing:
            trained = ", ".join(head for head in ALL_HEADS if head in self.heads)
            raise ConfigError(
                f"{self.path}: it was trained with heads {trained}; expected "
                f"{' and '.join(missing)} too, which {flag} reads. Choose another way to read it, "
                "or train that too (model.tasks)."
            )


def save_bundle(
    path: Path,
    model: SpeechTextModel,
    tokenizer: Tokenizer,
    features: LogMelConfig,
    *,
    training: TrainingInfo = TrainingInfo(),  # noqa: B008 (frozen)
) -> None:
    """Writes the folder aside and renames it into place, replacing an older bundle.

    Args:
        path: Folder to create.
        model: Weights and dimensions; the feature statistics are among the weights.
        tokenizer: Its text side.
        features: Its audio side.
        training: What to remember of the training.

    Raises:
        ConfigError: The model has an encoder of another kind.
    """
    describe(model.encoder)  # which refuses, before anything is written
    with write_folder_aside(path, mark=CONFIG_FILE) as aside:
        sha256 = _write_weights(aside, model)
        config = bundle_config(model, features, sha256=sha256, training=training)
        _write_rest(aside, config, tokenizer, model.num_parameters())


def bundle_config(
    model: SpeechTextModel, features: LogMelConfig, *, sha256: str, training: TrainingInfo
) -> BundleConfig:
    """The settings of a model whose weights are in a file with this checksum."""
    return BundleConfig(
        model=model.config,
        encoder=describe(model.encoder),
        vocab_size=model.vocab_size,
        align_vocab_size=model.align_vocab_size,
        heads=tuple(head for head in ALL_HEADS if head in model.heads),
        tags=model.decoder.names if "decoder" in model.heads else (),
        features=features,
        weights_sha256=sha256,
        training=training,
        voice=None if model.voice is None else model.voice.config,
    )


def save_language_model(
    path: Path,
    model: LanguageModel,
    tokenizer: Tokenizer,
    *,
    training: TrainingInfo = TrainingInfo(),  # noqa: B008 (frozen)
) -> None:
    """The same for a language model."""
    with write_folder_aside(path, mark=CONFIG_FILE) as aside:
        config = LanguageBundleConfig(
            model=model.config,
            vocab_size=model.vocab_size,
            weights_sha256=_write_weights(aside, model),
            training=training,
        )
        _write_rest(aside, config, tokenizer, model.num_parameters())


def _write_weights(folder: Path, model: torch.nn.Module) -> str:
    """Writes the weights; their checksum."""
    from safetensors.torch import save_file

    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if not is_auxiliary(name)
    }
    save_file(weights, folder / WEIGHTS_FILE)
    return file_sha256(folder / WEIGHTS_FILE)


def _write_rest(
    folder: Path,
    config: BundleConfig | LanguageBundleConfig,
    tokenizer: Tokenizer,
    parameters: int,
) -> None:
    tokenizer.save(folder / TOKENIZER_FILE)
    (folder / CONFIG_FILE).write_text(_as_text(config.to_json()), encoding="utf-8")
    card = model_card(config, tokenizer, parameters)
    (folder / CARD_FILE).write_text(card, encoding="utf-8", errors="backslashreplace")


def _as_text(config: dict[str, Any]) -> str:
    """JSON in UTF-8; names of files that are not, in the command, become escapes."""
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_auxiliary(weight: str) -> bool:
    """Whether a weight belongs to a head that only training needs."""
    owner, _, rest = weight.partition(".")
    return owner == "heads" and rest.partition(".")[0] not in ALL_HEADS


def _read_json(path: Path, *, format: str) -> dict[str, Any]:
    """The plain values of a bundle's config.json, by today's names.

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
    config = read_settings(path)
    accepted = (format, OLD_FORMAT) if format == FORMAT else (format,)
    if config.get("format") == LANGUAGE_FORMAT != format:
        raise CheckpointError(
            f"{path}: is a language model, which transcribe reads with --lm; expected a model of speech. "
            "Give another bundle."
        )
    if config.get("format") not in accepted:
        raise CheckpointError(
            f"{path / CONFIG_FILE}: format is {config.get('format')!r}; expected {format!r}. "
            "Give another bundle, or use the version of speechmm that wrote this one."
        )
    if format == LANGUAGE_FORMAT:
        return config
    with fitting(path):
        return upgrade_config(config)


def read_settings(path: Path) -> dict[str, Any]:
    """What config.json holds, by the names it was written with."""
    return read_json(
        path / CONFIG_FILE,
        expected="a bundle's settings",
        advice="Copy the bundle again.",
        error=CheckpointError,
    )


def read_bundle_config(path: Path) -> BundleConfig:
    """The settings of a joint model's bundle; no weights are read.

    Raises:
        CheckpointError: The folder is no bundle, or its settings are damaged.
    """
    plain = _read_json(path, format=FORMAT)
    with fitting(path):
        return BundleConfig.from_json(plain)


def set_confidence(path: Path, decoder: str, found: ConfidenceInfo) -> None:
    """Writes what calibration found for a decoder into a bundle's settings."""
    config = read_settings(path)
    config.setdefault("confidence", {})[decoder] = dataclasses.asdict(found)
    write_text(path / CONFIG_FILE, _as_text(config))


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
    plain = _read_json(path, format=FORMAT)
    check_sha256(path / WEIGHTS_FILE, plain)
    tokenizer = Tokenizer.load(path / TOKENIZER_FILE)
    with fitting(path):
        config = BundleConfig.from_json(plain)
        _check_sizes(config, path, plain)
        model = build_model(config)
        _load_weights(model, path, plain)
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
    return Bundle(
        model=model,
        tokenizer=tokenizer,
        features=config.features,
        path=path,
        sha256=config.weights_sha256,
        training=config.training,
        confidence=config.confidence,
    )


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
    plain = _read_json(path, format=LANGUAGE_FORMAT)
    check_sha256(path / WEIGHTS_FILE, plain)
    tokenizer = Tokenizer.load(path / TOKENIZER_FILE)
    with fitting(path):
        config = LanguageBundleConfig.from_json(plain)
        model = LanguageModel(config.model, vocab_size=config.vocab_size)
        _load_weights(model, path, plain)
    if tokenizer.vocab_size != model.vocab_size:
        raise CheckpointError(
            f"{path / TOKENIZER_FILE}: {tokenizer.vocab_size} entries, but the model has "
            f"{model.vocab_size}; expected the tokenizer of the same bundle. Copy the bundle again."
        )
    return LanguageBundle(model.eval(), tokenizer)


def check_sha256(file: Path, config: dict[str, Any], kind: str = "bundle") -> None:
    """Refuses weights that are not those of the settings beside them.

    Raises:
        CheckpointError: The checksum differs.
    """
    sha256 = file_sha256(file)
    if sha256 != config.get("weights_sha256"):
        raise CheckpointError(
            f"{file}: its checksum is {sha256[:12]}..., but config.json says "
            f"{str(config.get('weights_sha256'))[:12]}...: the file is damaged or from another "
            f"model. Copy the {kind} again."
        )


def build_model(config: BundleConfig) -> SpeechTextModel:
    """A model of these settings, with random weights."""
    return SpeechTextModel(
        config.model,
        vocab_size=config.vocab_size,
        n_mels=config.features.n_mels,
        align_vocab_size=config.align_vocab_size,
        heads=config.heads,
        tags=config.tags,
        encoder=None if config.encoder is None else build(config.encoder, config.model),
        voice=config.voice,
    )


def _check_sizes(config: BundleConfig, path: Path, plain: dict[str, Any]) -> None:
    """Compares the sizes of the settings with those of the weights before any memory is taken.

    Raises:
        ValueError: They differ.
    """
    from safetensors import safe_open

    if plain.get("format") == OLD_FORMAT:
        return
    with without_values():
        wanted = {
            name: list(value.shape) for name, value in build_model(config).state_dict().items()
        }
    with safe_open(path / WEIGHTS_FILE, framework="pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    for name, shape in wanted.items():
        if found.get(name) != shape and not is_auxiliary(name):
            raise ValueError(f"{name}: {found.get(name)} in the weights, {shape} in the settings")


def _load_weights(model: torch.nn.Module, path: Path, config: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    model.load_state_dict(upgrade_weights(load_file(path / WEIGHTS_FILE), config))
    to_column_major(model)


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turns what goes wrong between settings and weights into one line."""
    from safetensors import SafetensorError

    try:
        yield
    except SpeechmmError:
        raise
    except (
        SafetensorError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
        ArithmeticError, AssertionError,
    ) as error:  # fmt: skip
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: weights and settings do not fit ({first_line}); expected the files of one "
            "bundle. Copy the bundle again."
        ) from error

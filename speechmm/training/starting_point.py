"""What a training starts from, a bundle or a pretrained encoder, and the settings that follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.files.yaml_text import peek_settings
from speechmm.inference.alignment.aligner_folder import UNIVERSAL as UNIVERSAL_FOLDER
from speechmm.inference.alignment.aligner_folder import read_config
from speechmm.models.bundle import read_bundle_config
from speechmm.models.encoder import Encoder
from speechmm.models.lora import LoraConfig
from speechmm.models.pretrained.description import EncoderInfo, build
from speechmm.models.pretrained.folder import read_description, read_pretrained, weights_digest
from speechmm.models.pretrained.stacked import stack_on
from speechmm.models.pretrained.whisper import WhisperEncoder
from speechmm.models.pretrained.whisper_decoder import read_decoder
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.options import UNIVERSAL

INIT_FROM, PRETRAINED = "init_from", "model.pretrained"
TEACHER = "model.tasks.distillation.teacher"
OWN_LAYERS, DECODER = "model.own_layers", "model.pretrained_decoder"
TRAILING_SILENCE = 5.0
"""Seconds after which Whisper's decoder finds the end of an utterance as well as after 30 s: with one
second it sometimes goes on in circles (docs/experiments/2026-11-28-trailing-silence.md)."""


def starting_defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """Defaults of settings, by their dotted names, that follow from what the training starts from.

    Args:
        arguments: Flags of ``speechmm fit``; their files are read.

    Raises:
        CheckpointError: There is no such bundle or encoder.
        ConfigError: Both are asked for.
    """
    asked = {name: _last_word(arguments, name) for name in (INIT_FROM, PRETRAINED)}
    bundle, folder = bundle_of(asked[INIT_FROM]), asked[PRETRAINED]
    check_one_start(bundle, folder)
    if bundle is not None:
        config = read_bundle_config(Path(bundle))
        found = _named("model.network", config.model) | _named("data.features", config.features)
        if config.voice is not None:
            layers = ("token_layers", "mel_layers")
            found |= {f"model.tasks.tts.{name}": getattr(config.voice, name) for name in layers}
            found |= _named("model.tasks.tts.mel", config.voice.mel)
        return found
    if folder is not None:
        _, info = read_description(Path(folder))
        decoder = _last_word(arguments, DECODER)
        if str(_last_value(arguments, OWN_LAYERS)).lower() == "true":
            return _named("data.features", info.config.features)
        network = {
            "d_model": info.config.width,
            "heads": info.config.heads,
            "ff_dim": info.config.ff_dim,
            "subsampling": info.config.subsampling,
        }
        if decoder is not None:
            network |= read_decoder(Path(folder), decoder).network
        named = {f"model.network.{name}": value for name, value in network.items()}
        return named | _named("data.features", info.config.features)
    teacher = _last_word(arguments, TEACHER)
    if teacher is not None:
        return _named("data.features", read_bundle_config(Path(teacher)).features)
    return {}


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """What the weights of a training start from: a bundle, a pretrained encoder, or nothing."""

    bundle: str | None = None
    folder: str | None = None
    """Of a pretrained encoder."""
    own_layers: bool = False
    """Whether layers of the model's own dimensions stand on that of the folder."""
    decoder: str | None = None
    """The language in which Whisper's decoder of the folder goes on; None for a decoder of our own."""
    trailing_silence: float | None = None
    """Seconds that Whisper's encoder reads after an utterance; None for what its decoder needs."""
    universal: bool = False
    """Whether the aligner that ships places the words of the training utterances first."""

    def check(self, lora: LoraConfig) -> None:
        """Refuses two starting points, and what needs one where there is none.

        Raises:
            CheckpointError: The bundle cannot be read.
            ConfigError: The first that does not go together.
        """
        check_one_start(self.bundle, self.folder)
        if lora.rank and self.bundle is None and self.folder is None:
            raise ConfigError(
                f"model.lora.rank is {lora.rank} and the training starts from nothing; expected a bundle "
                "in init_from or model.pretrained, whose weights are updated. Set one, or the rank to 0."
            )
        if self.decoder is not None and (self.folder is None or self.own_layers):
            found = (
                "model.own_layers is true" if self.own_layers else "there is no model.pretrained"
            )
            raise ConfigError(
                f"model.pretrained_decoder is {self.decoder} and {found}; expected the folder of a Whisper "
                "whose decoder reads its own encoder. Correct one of them."
            )
        if self.own_layers and self.bundle is not None:
            info = read_bundle_config(Path(self.bundle)).encoder
            if info is None or not info.own_layers:
                raise ConfigError(
                    f"model.own_layers is true and init_from is {self.bundle}, a bundle without layers of "
                    "its own on another encoder; expected one that has them: its encoder stays as it is. "
                    "Leave own_layers out."
                )
        if self.trailing_silence is not None and self.folder is None:
            raise ConfigError(
                f"model.trailing_silence is {self.trailing_silence} and there is no model.pretrained; "
                "expected Whisper's encoder, which reads it. Name its folder, or leave the setting out."
            )

    def encoder(self, network: SpeechTextConfig) -> Encoder | None:
        """The encoder of a bundle that stands on a pretrained one, or of a folder; None for one of our own.

        That of a bundle has random weights yet.

        Args:
            network: Dimensions of the model.

        Raises:
            ConfigError: These do not fit on it, or there is no folder.
        """
        if self.bundle is not None:
            info = read_bundle_config(Path(self.bundle)).encoder
            return None if info is None else build(info, network)
        if self.folder is None and self.own_layers:
            raise ConfigError(
                "model.own_layers is true and there is no encoder below them; expected model.pretrained. "
                "Set it, or leave own_layers out: the encoder of model.network is one of our own."
            )
        if self.folder is None:
            return None
        lower = read_pretrained(Path(self.folder)).encoder
        self._add_silence(lower)
        if not self.own_layers:
            return lower
        try:
            return cast(Encoder, stack_on(cast(nn.Module, lower), network))
        except ValueError as error:
            raise ConfigError(
                f"model.network: {error}; expected one. Set subsampling to {lower.subsampling} or twice "
                "that."
            ) from error

    def _add_silence(self, encoder: Encoder) -> None:
        """Has Whisper's encoder read silence after every utterance.

        Raises:
            ConfigError: It is another encoder, or the silence is too long.
        """
        silence = self.trailing_silence
        if silence is None:
            silence = 0.0 if self.decoder is None else TRAILING_SILENCE
        if not isinstance(encoder, WhisperEncoder):
            if silence:
                raise ConfigError(
                    f"model.trailing_silence is {silence} and {self.folder} holds a "
                    f"{type(encoder).__name__}; expected Whisper's. Leave the setting out."
                )
            return
        config = dataclasses.replace(encoder.config, trailing_silence=silence)
        try:
            config.check()
        except ValueError as error:
            raise ConfigError(f"model.{error}; expected seconds. Correct it.") from error
        encoder.config = config


def bundle_of(init_from: str | None) -> str | None:
    """The path of a bundle; None where it is the word for the universal aligner, or nothing.

    A bundle in a folder of that name is given as ``./universal``.
    """
    return None if init_from == UNIVERSAL else init_from


def check_one_start(bundle: str | None, folder: str | None) -> None:
    """Refuses two starting points.

    Raises:
        ConfigError: Both are given.
    """
    if bundle is not None and folder is not None:
        raise ConfigError(
            f"init_from is {bundle} and model.pretrained {folder}; expected one of them: a bundle holds "
            "its encoder. Leave one out."
        )


def check_encoder(
    info: EncoderInfo | None, network: SpeechTextConfig, features: LogMelConfig
) -> None:
    """Refuses dimensions and features that a pretrained encoder does not have.

    Raises:
        ConfigError: The first that differs.
    """
    if info is None:
        return
    wanted: dict[str, object] = {}
    if not info.own_layers:
        wanted = {
            "model.network.d_model": info.config.width,
            "model.network.subsampling": info.config.subsampling,
        }
    names: tuple[str, ...] = ("sample_rate", "hop_length")
    if info.kind == "whisper":
        names = (*names, "n_mels", "n_fft", "win_length", "f_min", "f_max")
    wanted |= {f"data.features.{name}": getattr(info.config.features, name) for name in names}
    found = _named("model.network", network) | _named("data.features", features)
    for name, value in wanted.items():
        if found[name] != value:
            raise ConfigError(
                f"{name} is {found[name]}, but the pretrained encoder has {value}; expected that. "
                f"Leave {name} out of the config."
            )


def named_by_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain settings with the content of the starting point in place of its path.

    A bundle that is trained again, or moved, is then told apart, or not, by what it holds.
    """
    changed = settings | {"model": dict(settings.get("model") or {})}
    if settings.get(INIT_FROM) == UNIVERSAL:
        changed[INIT_FROM] = [UNIVERSAL, read_config(UNIVERSAL_FOLDER)["weights_sha256"]]
    elif settings.get(INIT_FROM):
        changed[INIT_FROM] = read_bundle_config(Path(settings[INIT_FROM])).weights_sha256
    if changed["model"].get("pretrained"):
        changed["model"]["pretrained"] = weights_digest(Path(changed["model"]["pretrained"]))
    tasks = changed["model"].get("tasks") or {}
    teacher = (tasks.get("distillation") or {}).get("teacher")
    if teacher:
        named = tasks["distillation"] | {
            "teacher": read_bundle_config(Path(teacher)).weights_sha256
        }
        changed["model"]["tasks"] = tasks | {"distillation": named}
    if changed["model"].get("frozen_frames"):
        changed["model"]["frozen_frames"] = True  # wherever they are kept
    return changed


def _named(prefix: str, config: Any) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in dataclasses.asdict(config).items()}


def _last_word(arguments: Sequence[str], name: str) -> str | None:
    """What flags and config files say of a setting that is a text."""
    found = _last_value(arguments, name)
    return found if isinstance(found, str) and found not in ("", "null") else None


def _last_value(arguments: Sequence[str], name: str) -> Any:
    """What flags and config files say of a setting; the later word wins."""
    found: Any = None
    for place, flag in enumerate(arguments):
        word, equals, value = flag.partition("=")
        if not equals:
            value = arguments[place + 1] if place + 1 < len(arguments) else ""
        if word == f"--{name}":
            found = value
        elif word == "--config":
            found = _in_file(value, name, found)
    return found


def _in_file(path: str, name: str, default: Any) -> Any:
    """A setting of a config file; what is wrong with the file is said by the parser."""
    settings: Any = peek_settings(path)
    for part in name.split("."):
        if not isinstance(settings, dict) or part not in settings:
            return default
        settings = settings[part]
    return settings

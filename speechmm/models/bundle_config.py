"""Describes a bundle: the typed content of its config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from speechmm.audio.log_mel import LogMelConfig
from speechmm.files.json_text import fits
from speechmm.models.language_model import LanguageModelConfig
from speechmm.models.pretrained.description import CONFIGS, EncoderInfo
from speechmm.models.speech_text_config import SpeechTextConfig
from speechmm.models.voice import VoiceConfig

FORMAT = "speechmm-bundle/2"
LANGUAGE_FORMAT = "speechmm-lm/1"
PLAIN_MEAN = 1.0
"""``cmn_quiet_share`` of bundles that do not say: they were trained with the mean of all frames."""


LARGEST = 1_000_000
"""No dimension, vocabulary or rate is larger; a file that says so is damaged."""
MOST_LAYERS = 1_000
Config = TypeVar("Config")


def typed(kind: type[Config], values: Any) -> Config:
    """Settings of a dataclass from plain values, each of its field's type and of a possible size."""
    if not isinstance(values, dict):
        raise TypeError(f"{kind.__name__}: found {type(values).__name__}; expected named values")
    hints = get_type_hints(kind)
    for name, value in values.items():
        shape = _shape(hints[name]) if name in hints else object
        if not fits(value, shape):
            raise TypeError(f"{name}: found {str(value)[:40]!r} of type {type(value).__name__}")
        limit = MOST_LAYERS if "layers" in name else LARGEST
        if isinstance(value, int | float) and abs(value) > limit:
            raise ValueError(f"{name}: found {value}; expected at most {limit}")
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    )


def _shape(hint: Any) -> Any:
    """The shape that JSON has for a type; what is no plain type may have any."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    plain = tuple(None if one is NoneType else one for one in options)
    return plain if all(one in (int, float, bool, str, None) for one in plain) else object


def _size(name: str, value: Any) -> Any:
    if value is not None and not (fits(value, int) and 0 < value <= LARGEST):
        raise ValueError(f"{name}: found {value!r}; expected a number of 1 to {LARGEST}")
    return value


def _names(name: str, values: Any) -> tuple[str, ...]:
    if not fits(values, [str]):
        raise TypeError(f"{name}: found {str(values)[:40]}; expected a list of names")
    return tuple(values)


def _encoder(values: Any) -> EncoderInfo | None:
    if values is None:
        return None
    known = fits(values, {"kind": str, "config": object}) and values["kind"] in CONFIGS
    if not known or not isinstance(values.get("own_layers", False), bool):
        raise ValueError(f"encoder: found {str(values)[:40]}; expected one of {', '.join(CONFIGS)}")
    info = EncoderInfo(
        kind=values["kind"],
        config=typed(CONFIGS[values["kind"]], values["config"]),
        own_layers=values.get("own_layers", False),
    )
    info.config.check()
    return info


def _voice(values: Any) -> VoiceConfig | None:
    if values is None:
        return None
    if not fits(values, {"mel": object, "speakers": [str]}):
        raise ValueError(f"voice: found {str(values)[:40]}; expected mel and speakers")
    others = {name: value for name, value in values.items() if name != "mel"}
    return dataclasses.replace(typed(VoiceConfig, others), mel=typed(LogMelConfig, values["mel"]))


@dataclass(frozen=True, kw_only=True)
class UtteranceSeconds:
    """Lengths of the training utterances in seconds."""

    median: float
    usual: float
    """95 % are no longer."""


@dataclass(frozen=True, kw_only=True)
class TrainingInfo:
    """How a model was trained."""

    seed: int | None = None
    steps: int | None = None
    """Optimiser steps."""
    epochs: int | None = None
    selection: float | None = None
    """What the best checkpoint was chosen by; the lower the better."""
    command: str | None = None
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings of the tasks, by their names."""
    utterance_seconds: UtteranceSeconds | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainingInfo:
        """What is known among plain values; others are left out."""
        known: dict[str, Any] = {
            one.name: values[one.name] for one in dataclasses.fields(cls) if one.name in values
        }
        if known.get("utterance_seconds"):
            known["utterance_seconds"] = typed(UtteranceSeconds, known["utterance_seconds"])
        return typed(cls, known)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without what is not known."""
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if value not in (None, {})
        }


@dataclass(frozen=True, kw_only=True)
class ConfidenceInfo:
    """What ``speechmm calibrate`` found for one decoder: a line through log-odds, and how well it fits."""

    scale: float
    bias: float
    words: int = 0
    """Words it was learned from."""
    correct: int = 0
    """Those that were recognised correctly."""
    expected_calibration_error: float = 0.0
    """Of the confidences before."""
    calibrated_error_held_out: float = 0.0
    """After, on words it was not learned from."""


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """The config.json of a joint model's bundle."""

    model: SpeechTextConfig
    encoder: EncoderInfo | None = None
    """A pretrained encoder; None for one of the model's own dimensions."""
    vocab_size: int
    align_vocab_size: int | None = None
    heads: tuple[str, ...]
    """Those that were trained, of ``speechmm.models.speech_text.ALL_HEADS``."""
    tags: tuple[str, ...]
    """Tasks of the decoder."""
    features: LogMelConfig
    weights_sha256: str
    training: TrainingInfo = TrainingInfo()
    confidence: dict[str, ConfidenceInfo] = field(default_factory=dict)
    """Calibrations of word confidences, by decoder."""
    voice: VoiceConfig | None = None
    """What it speaks, if it does."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BundleConfig:
        """Typed settings.

        Raises:
            KeyError, TypeError, ValueError: Something is missing, of another type or far too large, or
                there is a dimension that nobody knows.
        """
        return cls(
            model=typed(SpeechTextConfig, {"cmn_quiet_share": PLAIN_MEAN} | dict(values["model"])),
            encoder=_encoder(values.get("encoder")),
            vocab_size=_size("vocab_size", values["vocab_size"]),
            align_vocab_size=_size("align_vocab_size", values.get("align_vocab_size")),
            heads=tuple(values["heads"]),
            tags=_names("tags", values["tags"]),
            features=typed(LogMelConfig, values["features"]),
            weights_sha256=values["weights_sha256"],
            training=TrainingInfo.from_json(values.get("training", {})),
            confidence={
                decoder: typed(ConfidenceInfo, found)
                for decoder, found in values.get("confidence", {}).items()
            },
            voice=_voice(values.get("voice")),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        values = {"format": FORMAT} | dataclasses.asdict(self)
        values |= {"heads": list(self.heads), "tags": list(self.tags)}
        values["training"] = self.training.to_json()
        for name in ("encoder", "confidence", "voice"):
            if not values[name]:
                del values[name]
        return values


@dataclass(frozen=True, kw_only=True)
class LanguageBundleConfig:
    """The config.json of a language model's bundle."""

    model: LanguageModelConfig
    vocab_size: int
    weights_sha256: str
    training: TrainingInfo = TrainingInfo()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LanguageBundleConfig:
        """Typed settings.

        Raises:
            KeyError, TypeError, ValueError: Something is missing, of another type or far too large, or
                there is a dimension that nobody knows.
        """
        return cls(
            model=typed(LanguageModelConfig, values["model"]),
            vocab_size=_size("vocab_size", values["vocab_size"]),
            weights_sha256=values["weights_sha256"],
            training=TrainingInfo.from_json(values.get("training", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        values = {"format": LANGUAGE_FORMAT} | dataclasses.asdict(self)
        values["training"] = self.training.to_json()
        return values

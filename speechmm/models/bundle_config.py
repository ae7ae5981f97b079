"""Describes a bundle: the typed content of its config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechmm.audio.log_mel import LogMelConfig
from speechmm.models.language_model import LanguageModelConfig
from speechmm.models.speech_text import SpeechTextConfig

FORMAT = "speechmm-bundle/2"
LANGUAGE_FORMAT = "speechmm-lm/1"


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
        known = {
            one.name: values[one.name] for one in dataclasses.fields(cls) if one.name in values
        }
        if known.get("utterance_seconds"):
            known["utterance_seconds"] = UtteranceSeconds(**known["utterance_seconds"])
        return cls(**known)

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
    vocab_size: int
    align_vocab_size: int | None = None
    heads: tuple[str, ...]
    """Those that were trained, of ``speechmm.models.speech_text.HEADS``."""
    tags: tuple[str, ...]
    """Tasks of the decoder."""
    features: LogMelConfig
    weights_sha256: str
    training: TrainingInfo = TrainingInfo()
    confidence: dict[str, ConfidenceInfo] = field(default_factory=dict)
    """Calibrations of word confidences, by decoder."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BundleConfig:
        """Typed settings.

        Raises:
            KeyError, TypeError: Something is missing, or there is a dimension that nobody knows.
        """
        return cls(
            model=SpeechTextConfig(**values["model"]),
            vocab_size=values["vocab_size"],
            align_vocab_size=values.get("align_vocab_size"),
            heads=tuple(values["heads"]),
            tags=tuple(values["tags"]),
            features=LogMelConfig(**values["features"]),
            weights_sha256=values["weights_sha256"],
            training=TrainingInfo.from_json(values.get("training", {})),
            confidence={
                decoder: ConfidenceInfo(**found)
                for decoder, found in values.get("confidence", {}).items()
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        values = {"format": FORMAT} | dataclasses.asdict(self)
        values |= {"heads": list(self.heads), "tags": list(self.tags)}
        values["training"] = self.training.to_json()
        if not self.confidence:
            del values["confidence"]
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
            KeyError, TypeError: Something is missing, or there is a dimension that nobody knows.
        """
        return cls(
            model=LanguageModelConfig(**values["model"]),
            vocab_size=values["vocab_size"],
            weights_sha256=values["weights_sha256"],
            training=TrainingInfo.from_json(values.get("training", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        values = {"format": LANGUAGE_FORMAT} | dataclasses.asdict(self)
        values["training"] = self.training.to_json()
        return values

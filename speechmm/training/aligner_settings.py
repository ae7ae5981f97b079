"""How an aligner learns from recordings and texts alone."""

from __future__ import annotations

import math
from argparse import ArgumentError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import ConfigError
from speechmm.files.text import read_text
from speechmm.text.align_units import RARE
from speechmm.training.augmentation.noise_reverb import NoiseReverbConfig


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """How an aligner learns; the values are those that did best on spoken corpora with exact times."""

    seed: int = 0
    features: LogMelConfig = field(default_factory=lambda: LogMelConfig(n_mels=40, hop_length=80))
    """A frame every 5 ms: edges are finer, and a stop may be over after one."""
    start_epochs: int = 24
    """Epochs of the flat start."""
    leading_epochs: int = 6
    """In these, priors lead it, fading to nothing: near the diagonal, silence is soft."""
    start_prior: float = 0.5
    """How much of the label prior is divided out at the end of the flat start."""
    rounds: int = 3
    """Times that a new network learns the alignment of the one before."""
    round_epochs: int = 10
    members: int = 2
    """Networks whose scores are averaged at the end, of other seeds."""
    member_epochs: int = 14
    smoothing: float = 0.05
    """Label smoothing: alignments are wrong now and then."""
    batch_frames: int = 5000
    """Of a step; fewer where an epoch would have less than eight steps."""
    steps_at_least: int = 400
    """Of a round: an epoch of few recordings is too short."""
    frames_an_epoch: int = 800_000
    """An epoch of more recordings (over an hour) takes some of them."""
    most_frames: int = 4_000_000
    """Of all recordings it learns from (over five hours), drawn at random: they are kept in memory."""
    learning_rate: float = 3e-3
    rare: int = RARE
    """A unit with marks that comes less often shares the bare letter's."""
    width: int = 128
    """Of the networks' layers."""
    kernel: int = 5
    """Frames that each of the two layers sees."""
    mask_bands: int = 8
    """Fewer mel bands than this, 0 included, are hidden of each utterance while learning."""
    noise_reverb: NoiseReverbConfig = field(default_factory=NoiseReverbConfig)
    """Noise and rooms while learning; alignments are learned from the recordings as they are."""

    def __post_init__(self) -> None:
        sizes = (self.width, self.kernel, self.members, self.batch_frames, self.most_frames)
        least = (*sizes, self.start_epochs, self.mask_bands)
        if min(least) < 1 or self.kernel % 2 == 0:
            raise ConfigError(
                f"aligner: width, kernel, members, batch_frames, most_frames, start_epochs, mask_bands are "
                f"{least}; expected 1 or more each, and an odd kernel. Correct the settings."
            )
        if self.mask_bands > self.features.n_mels:
            raise ConfigError(
                f"aligner: mask_bands is {self.mask_bands}, features.n_mels {self.features.n_mels}; "
                "expected no more than there are bands. Correct the settings."
            )


DEFAULTS = LearningSettings()


def learning_settings(path: Path | None, *, seed: int | None = None) -> LearningSettings:
    """The settings of a YAML file, or the ones there are without; a seed that is given is taken first.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown or of another kind.
    """
    import yaml
    from jsonargparse import ArgumentParser

    given: dict[str, Any] = {} if seed is None else {"seed": seed}
    if path is None:
        return replace(DEFAULTS, **given)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--learning", type=LearningSettings)
    try:
        written = yaml.safe_load(read_text(path)) or {}
        found = parser.parse_object({"learning": written}).learning.as_dict()
        parts = {
            "features": LogMelConfig(**found.pop("features")),
            "noise_reverb": NoiseReverbConfig(**found.pop("noise_reverb")),
        }
    except (ArgumentError, AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: {' '.join(str(error).split())}; expected settings of LearningSettings, a name and a "
            "value in each line. Correct it."
        ) from error
    for name, value in found.items():
        if value is None or not 0 <= value < math.inf:
            raise ConfigError(
                f"{path}: {name} is {value}; expected a number, 0 or more. Correct it."
            )
    return LearningSettings(**{**found, **parts, **given})

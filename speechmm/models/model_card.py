"""Writes the card of a bundle: a short README for whoever finds the folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from speechmm.models.bundle_config import BundleConfig, LanguageBundleConfig, TrainingInfo
from speechmm.text.languages import languages_of
from speechmm.text.tokenizer import Tokenizer


def model_card(
    config: BundleConfig | LanguageBundleConfig, tokenizer: Tokenizer, parameters: int
) -> str:
    """Markdown: what the model does, how to use it, how it was trained.

    Args:
        config: Of the bundle.
        tokenizer: Its text side.
        parameters: Their number.
    """
    size = (
        f"{parameters:,} parameters, {tokenizer.kind} tokenizer with {tokenizer.vocab_size} "
        f"entries, text normalizer `{tokenizer.normalizer}`"
    )
    if isinstance(config, LanguageBundleConfig):
        about = f"A language model for shallow fusion in speech recognition.\n\n{size}.\n\n"
        use = "speechmm transcribe AUDIO --model BUNDLE --beam 10 --lm .\n"
    else:
        about = (
            f"A joint speech-text model with {_heads(config)}{_encoder(config)}.{_languages(config)}\n\n"
            f"{size}, audio at {config.features.sample_rate} Hz.\n\n"
        )
        use = _use(config)
    rows = "\n".join(f"| {name} | {value} |" for name, value in _training(config.training))
    return (
        f"# speechmm model\n\n{about}```sh\n{use}```\n\n"
        f"## Training\n\n| what | value |\n|---|---|\n{rows}\n"
    )


def _heads(config: BundleConfig) -> str:
    known = {
        "ctc": "CTC (speech to text)",
        "decoder": "an attention decoder (speech to text)",
        "align": "an alignment head (text to times)",
        "tts": "a voice (text to speech)",
    }
    return ", ".join(known[head] for head in config.heads)


def _languages(config: BundleConfig) -> str:
    found = {
        "It recognises": languages_of("asr", config.tags),
        "It translates into": languages_of("translate", config.tags),
    }
    return "".join(f" {what} {', '.join(codes)}." for what, codes in found.items() if codes)


def _encoder(config: BundleConfig) -> str:
    if config.encoder is None:
        return ""
    names = {"whisper": "Whisper's", "wav2vec2": "one of the wav2vec 2.0 family"}
    return f"; its encoder is {names[config.encoder.kind]}, fine-tuned"


def _use(config: BundleConfig) -> str:
    """The commands that the heads are enough for, with their flags where defaults ask for more."""
    heads = set(config.heads)
    lines = []
    if heads & {"ctc", "decoder"}:
        decoder = "" if {"ctc", "decoder"} <= heads else " --decoder "
        alone = "" if not decoder else "ctc" if "ctc" in heads else "attention"
        lines.append(f"speechmm transcribe AUDIO --model .{decoder}{alone}\n")
    if heads & {"ctc", "align"}:
        aligner = "" if "align" in heads else " --aligner ctc"
        lines.append(f"speechmm align AUDIO --text TEXT --model . --out ALIGNED{aligner}\n")
    if config.voice is not None:
        several = len(config.voice.speakers) > 1
        speaker = f" --speaker {shlex.quote(config.voice.speakers[0])}" if several else ""
        lines.append(f"speechmm synthesize TEXT --model . --out SPEECH.wav{speaker}\n")
    return "".join(lines)


def _training(training: TrainingInfo) -> Iterator[tuple[str, object]]:
    """Rows of a table: what is known of the training, one row for each task."""
    for name, value in training.to_json().items():
        if isinstance(value, dict):
            for key, inner in value.items():
                settings = inner.items() if isinstance(inner, dict) else [("", inner)]
                text = ", ".join(f"{setting} {known}".strip() for setting, known in settings)
                yield f"{name}: {key}", text
        else:
            yield name, value
